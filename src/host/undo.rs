//! Taking a set-up back: first the lines that have sshd read our files, then, when sshd uses none of them any more,
//! the files. The other way round nobody could log in by key, since sshd refuses all keys when RevokedKeys is gone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::files;

use super::change::{self, Change};
use super::error::HostError;
use super::first_line::{FirstLine, pam_runs};
use super::layout::{Layout, UNIT};
use super::manifest::Manifest;
use super::sshd::{Reloaded, Sshd, systemctl};

/// What is to be taken back. Nothing is yet.
#[derive(Debug)]
pub struct Undo {
    layout: Layout,
    sshd: Sshd,
    manifest: Manifest,
    /// What has sshd read our files.
    lines: Vec<Change>,
    /// The files.
    files: Vec<Change>,
    /// Folders that stay, since something else lies there.
    pub left: Vec<PathBuf>,
}

impl Undo {
    /// Finds out what was written and is there still. Refuses where somebody changed it, unless `force`.
    pub fn plan(layout: &Layout, sshd: &Sshd, force: bool) -> Result<Self, HostError> {
        let manifest = Manifest::load(layout)?.ok_or_else(|| HostError::NotSetUp(layout.manifest()))?;
        let (mut changed, mut lines, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for (ours, wrote) in [(FirstLine::include(layout), manifest.include), (FirstLine::pam(layout), manifest.pam)] {
            lines.extend(if wrote { ours.removed()? } else { None });
        }
        for path in manifest.files.keys().rev() {
            layout.check_folders(path)?;
            let Some(change) = Change::to(path.clone(), None)? else { continue };
            if change.before.as_ref().is_some_and(|node| !manifest.knows(layout, path, node)) {
                changed.push(path.clone());
            }
            if *path == layout.drop_in() { &mut lines } else { &mut rest }.push(change);
        }
        if !changed.is_empty() && !force {
            return Err(HostError::Changed(changed));
        }
        for path in manifest.files.keys().chain([&layout.manifest(), &layout.sshd_config(), &layout.pam()]) {
            rest.extend(leftovers(path)?);
        }
        rest.extend(Change::to(layout.unread(), None)?);
        // The last: as long as it is there, this can be run again.
        rest.extend(Change::to(layout.manifest(), None)?);
        let removed = lines.iter().chain(&rest).filter(|change| change.after.is_none());
        let mut gone: BTreeSet<PathBuf> = removed.map(|change| change.path.clone()).collect();
        let mut left = Vec::new();
        for folder in manifest.folders.iter().rev() {
            let Some(change) = Change::to(folder.clone(), None)? else { continue };
            if entries(folder)?.iter().all(|entry| gone.contains(entry)) {
                gone.insert(folder.clone());
                rest.push(change);
            } else {
                left.push(folder.clone());
            }
        }
        Ok(Self { layout: layout.clone(), sshd: sshd.clone(), manifest, lines, files: rest, left })
    }

    /// In the order in which they are made.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.lines.iter().chain(&self.files)
    }

    /// Takes it back.
    pub fn apply(&self) -> Result<Reloaded, HostError> {
        change::apply(&self.lines)?;
        let told = self.unused().and_then(|()| self.sshd.reload(&self.layout, &self.sshd.settings(None)?));
        let told = told.map_err(|error| change::back(&self.lines, error))?;
        let sync = self.layout.is_this_machine() && self.manifest.files.contains_key(&self.layout.unit());
        if sync {
            // It may never have run.
            let _ = systemctl(&["stop", UNIT]);
        }
        change::apply(&self.files)?;
        if sync {
            let _ = systemctl(&["daemon-reload"]);
        }
        Ok(told)
    }

    /// Somebody may have copied our lines to where they stay.
    fn unused(&self) -> Result<(), HostError> {
        self.sshd.test()?;
        let (pam, program) = (self.layout.pam(), self.layout.session());
        if pam_runs(&self.layout, &program) {
            return Err(HostError::PamRuns { pam, program });
        }
        let accounts = self.manifest.accounts(&self.layout);
        for account in [None].into_iter().chain(accounts.iter().map(Some)) {
            if let Some(used) = self.sshd.settings(account)?.names_below(&self.layout.folder()) {
                return Err(HostError::StillUsed(used));
            }
        }
        Ok(())
    }
}

/// What a set-up that was killed left beside a file of ours.
fn leftovers(path: &Path) -> Result<Vec<Change>, HostError> {
    if !path.parent().is_some_and(Path::is_dir) {
        return Ok(Vec::new());
    }
    let found = files::leftovers(path).map_err(|e| HostError::file("look beside", path, e))?;
    found.into_iter().filter_map(|leftover| Change::to(leftover, None).transpose()).collect()
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, HostError> {
    let read = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    read().map_err(|e| HostError::file("read", folder, e))
}
