//! Which opening of its folder a node runs on: a number that grows with every start.
//!
//! Peers refuse what a former process of this node still sends, by this number. It is counted in a
//! file of its own, because it is needed before the log is read.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use common::ids::Incarnation;

const NAME: &str = "incarnation";

/// Counts this opening, durably. The caller holds the folder.
pub(super) fn next(folder: &Path) -> io::Result<Incarnation> {
    let path = folder.join(NAME);
    let former = match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse::<u64>().map_err(|_| {
            let hint = "write the number of starts so far into it, rather too high than too low";
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} does not hold a number; {hint}", path.display()),
            )
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let this = former + 1;
    let next = folder.join(format!("{NAME}.next"));
    let mut file = File::create(&next)?;
    writeln!(file, "{this}")?;
    file.sync_all()?;
    fs::rename(&next, &path)?;
    File::open(folder)?.sync_all()?;
    Ok(Incarnation(this))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_opening_counts_one_up_and_a_damaged_count_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for expected in 1..4 {
            assert_eq!(next(folder.path()).unwrap(), Incarnation(expected));
        }
        fs::write(folder.path().join(NAME), "three").unwrap();
        let error = next(folder.path()).unwrap_err().to_string();
        assert!(error.contains("does not hold a number"), "{error}");
    }
}
