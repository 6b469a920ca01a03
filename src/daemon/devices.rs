//! Trials of fence devices, as the node asks for them and as an operator does.

use super::Driver;
use crate::agents::{Agents, try_device};
use crate::api::{ApiAnswer, TriedDevice};
use crate::config::Config;
use quorate_fencing::{Device, ProofClass};
use quorate_recovery::contract::{DeviceWord, Fact, TrialLaunch};
use serde_json::json;
use std::net::ToSocketAddrs;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

impl Driver {
    /// Reads a device and tells the node.
    pub(super) fn try_device(&self, tasks: &mut JoinSet<()>, launch: TrialLaunch) {
        let (agents, tell) = (self.agents.clone(), self.tell.clone());
        tasks.spawn(async move {
            let (word, remark) = try_device(&agents, &launch.device, &launch.name).await;
            let read = Fact::DeviceRead {
                trial: launch.trial,
                word,
                remark,
            };
            let _ = tell.send(read).await;
        });
    }

    /// Reads the devices of a host, or of all hosts, from here, one after another, and answers. The
    /// node tries them anew as well, so that what is read counts.
    pub(super) fn try_devices(
        &mut self,
        tasks: &mut JoinSet<()>,
        host: Option<&str>,
        answer: oneshot::Sender<ApiAnswer>,
    ) {
        if let Err(why) = self.node.try_again(host) {
            let _ = answer.send(ApiAnswer::Error(why));
            return;
        }
        let member = self.node.member();
        let name = |n| member.cluster().name(n);
        let all = member.app().fencing.iter();
        let all = all.map(|(n, levels)| (name(*n), levels));
        let devices: Vec<(String, Device)> = all
            .filter(|(name, _)| host.is_none_or(|h| h == name))
            .flat_map(|(name, levels)| {
                let devices = levels.iter().flat_map(|l| l.devices.clone());
                devices.map(move |d| (name.clone(), d))
            })
            .collect();
        let agents = self.agents.clone();
        tasks.spawn(async move {
            let mut rows = Vec::new();
            for (host, device) in devices {
                let (word, remark) = try_device(&agents, &device, &host).await;
                rows.push(TriedDevice::new(host, device, word, remark));
            }
            let _ = answer.send(ApiAnswer::Ok(json!(rows)));
        });
    }
}

/// What the fence devices of a configuration say when they are read from here, and what is wrong with
/// them, both in words. Nothing is switched.
#[must_use]
pub fn trial_of_devices(config: &Config) -> (Vec<String>, Vec<String>) {
    let devices: Vec<&Device> = config.fence.iter().flat_map(|l| &l.devices).collect();
    let (mut said, mut wrong) = (Vec::new(), Vec::new());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let (Ok(runtime), Ok(program)) = (runtime, std::env::current_exe()) else {
        return (said, wrong);
    };
    let agents = Agents {
        program,
        dirs: config.agent_dirs.clone(),
    };
    for device in devices {
        let (word, remark) = runtime.block_on(try_device(&agents, device, &config.name));
        let name = &device.name;
        let waits = device.class() == Ok(ProofClass::Crash);
        let node = device.parameters.get("nodename").filter(|_| waits);
        let node = node.map_or(String::new(), |at| format!("; it waits for word from {at}"));
        match word {
            DeviceWord::On => said.push(format!("{name}: reads on from here{node}")),
            DeviceWord::Answers => said.push(format!("{name}: its agent is there{node}")),
            DeviceWord::Off => wrong.push(format!(
                "fence device {name} says that this host is off: is it the right plug?"
            )),
            DeviceWord::Unread(why) => {
                wrong.push(format!(
                    "fence device {name} cannot be read from here: {why}"
                ));
            }
        }
        wrong.extend(remark.map(|why| format!("fence device {name}: {why}")));
        wrong.extend(unresolved(config, device));
    }
    (said, wrong)
}

/// A name that the agent of a device would resolve, and that is nobody's here, or another host's.
fn unresolved(config: &Config, device: &Device) -> Option<String> {
    let name = device.parameters.get("nodename")?;
    let found = (name.as_str(), 0).to_socket_addrs();
    let Ok(found) = found.map(|all| all.map(|a| a.ip()).collect::<Vec<_>>()) else {
        return Some(format!(
            "fence device {}: nodename {name:?} cannot be resolved here; every voter must, or give \
             an address",
            device.name
        ));
    };
    let other = config
        .peers
        .iter()
        .find(|p| p.addresses.iter().any(|a| found.contains(a)));
    other.map(|p| {
        format!(
            "fence device {}: nodename {name:?} is an address of {}: its dump would count as the end \
             of this host",
            device.name, p.name
        )
    })
}

impl TriedDevice {
    fn new(host: String, device: Device, word: DeviceWord, remark: Option<String>) -> TriedDevice {
        let (said, why) = match word {
            DeviceWord::On => ("on", None),
            DeviceWord::Off => ("off", None),
            DeviceWord::Answers => ("answers", None),
            DeviceWord::Unread(why) => ("unread", Some(why)),
        };
        let why = [why, remark].into_iter().flatten().collect::<Vec<_>>();
        TriedDevice {
            host,
            device: device.name,
            agent: device.agent,
            said: said.to_owned(),
            why: (!why.is_empty()).then(|| why.join("; ")),
        }
    }
}
