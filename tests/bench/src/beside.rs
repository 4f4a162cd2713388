//! What stands beside Ottla in a row: a bare loop, or with `--against` another build of the broker under the same load.

use std::path::Path;

use anyhow::Result;

use crate::area::Plan;
use crate::peer::Peer;
use crate::raw::Ceiling;

/// The second server of a row.
pub(crate) struct Beside {
    pub(crate) peer: Peer,
    /// The other build, where there is one.
    build: Option<String>,
}

impl Beside {
    /// Starts the other build if the plan names one, else the bare loop. `settings` are those of the broker that is measured.
    pub(crate) fn start(plan: &Plan, ceiling: Ceiling, dir: &Path, settings: &[&str]) -> Result<Self> {
        let Some(binary) = &plan.against else {
            return Ok(Self { peer: Peer::raw(ceiling, dir)?, build: None });
        };
        let peer = Peer::ottla_at(binary, &dir.join("other-build"), settings)?;
        Ok(Self { peer, build: Some(binary.display().to_string()) })
    }

    /// The other build, which needs its topics and records made as Ottla does; a bare loop needs none.
    pub(crate) fn broker(&self) -> Option<&Peer> {
        self.build.as_ref().map(|_| &self.peer)
    }

    /// What the ratios of a row are of.
    pub(crate) fn of(&self, bare: &str) -> String {
        match &self.build {
            Some(build) => format!("the build {build} under the same load"),
            None => bare.to_owned(),
        }
    }

    /// What gives a row its scale: `figure` is of the other server, `reference` of the bare loop on the reference machine.
    pub(crate) fn note(&self, figure: &str, reference: impl FnOnce() -> String) -> String {
        match &self.build {
            Some(_) => format!("the other build: {figure}"),
            None => format!("bare loop: {figure}{}", reference()),
        }
    }
}
