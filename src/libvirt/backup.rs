//! The images that a backup of a running domain writes to beside the domain's own. In pull mode one
//! keeps the blocks that the guest overwrites; its header names the guest's image as the one below
//! it, as that of a snapshot does, and the guest writes nothing to it.

use quorate_recovery::images::ScratchImage;
use roxmltree::Document;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::UNIX_EPOCH;

/// The files that a backup under way writes to, by libvirt's description of it. Those that are no
/// files lie in no folder beside an image.
pub(super) fn files(xml: &str) -> Vec<String> {
    let Ok(doc) = Document::parse(xml) else {
        return Vec::new();
    };
    let ends = doc
        .descendants()
        .filter(|n| n.has_tag_name("scratch") || n.has_tag_name("target"));
    let files = ends.filter_map(|n| n.attribute("file"));
    files.map(str::to_owned).collect()
}

/// What lies at `path`, if a file does; asks the storage.
pub(super) fn found(path: &str) -> Option<ScratchImage> {
    let found = std::fs::metadata(path).ok().filter(Metadata::is_file)?;
    Some(ScratchImage {
        path: path.to_owned(),
        inode: found.ino(),
        made_ns: made(&found),
    })
}

/// When a file was made; 0 where its file system does not tell.
pub(super) fn made(found: &Metadata) -> i64 {
    let since = found.created().ok();
    let since = since.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |s| i64::try_from(s.as_nanos()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_backup_are_read_from_its_description() {
        let xml = "<domainbackup mode='pull'><server transport='unix' socket='/run/b'/><disks>\
                   <disk name='vda' backup='yes' type='file' backupmode='full' exportname='vda'>\
                   <driver type='qcow2'/><scratch file='/s/a.raw.backup'/></disk>\
                   <disk name='vdb' backup='yes' type='block'><scratch dev='/dev/x'/></disk>\
                   <disk name='vdc' backup='no'/></disks></domainbackup>";
        assert_eq!(files(xml), ["/s/a.raw.backup"]);
        let xml = "<domainbackup mode='push'><disks><disk name='vda' type='file'>\
                   <driver type='qcow2'/><target file='/s/b'/></disk></disks></domainbackup>";
        assert_eq!(files(xml), ["/s/b"]);
        assert!(files("<domainbackup").is_empty());
    }

    #[test]
    fn another_file_at_the_place_is_another_image() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("scratch").display().to_string();
        assert_eq!(found(&path), None);
        std::fs::write(&path, "old blocks").expect("written");
        let first = found(&path).expect("there");
        std::fs::write(&path, "more old blocks").expect("written");
        assert_eq!(found(&path).as_ref(), Some(&first), "written to");
        let other = dir.path().join("other").display().to_string();
        std::fs::write(&other, "").expect("written");
        std::fs::rename(&other, &path).expect("renamed");
        assert_ne!(found(&path), Some(first));
        assert_eq!(found(&dir.path().display().to_string()), None, "a folder");
    }
}
