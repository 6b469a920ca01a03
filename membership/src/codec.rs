//! Bytes on the wire and on disk. The only place that names bincode.
