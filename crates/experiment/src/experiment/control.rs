//! The control of an arm that recycles: the same trainings on a random basis.

use std::path::Path;

use eigenmix_trainer::BasisKind;

use super::{Arm, Cell, Work};

/// What the names of controls end with.
const SUFFIX: &str = "-random";

impl Arm {
    /// The control of this arm: as many parameters in the same modules, on random directions. `None` of an
    /// arm that recycles nothing, or is a control itself.
    pub(super) fn control(&self, output: &Path) -> Option<Self> {
        let cells = self.cells.iter().map(|cell| {
            let Work::Train(config) = &cell.work else {
                return None;
            };
            let adapter = &config.adapter;
            let is_on_basis = adapter.method.has_basis() && adapter.is_recycling();
            if !is_on_basis || adapter.basis != BasisKind::Recycled {
                return None;
            }
            let mut config = config.clone();
            config.adapter.basis = BasisKind::Random;
            config.adapter.gradient = None;
            let name = control_name(&cell.name);
            config.output = output.join(&name).display().to_string();
            Some(Cell {
                name,
                seed: cell.seed,
                work: Work::Train(config),
            })
        });
        let cells: Vec<Cell> = cells.collect::<Option<_>>()?;
        let arm = self.name.clone();
        (!cells.is_empty()).then(|| Self {
            name: control_name(&arm),
            cells,
            control_of: Some(arm),
        })
    }
}

/// The name of an arm or the directory of a cell, `ARM, VARIANT` or `ARM/VARIANT`, with another arm.
fn control_name(name: &str) -> String {
    let end = name.find(['/', ',']).unwrap_or(name.len());
    let (arm, rest) = name.split_at(end);
    format!("{arm}{SUFFIX}{rest}")
}

#[cfg(test)]
mod tests {
    use super::control_name;

    #[test]
    fn a_control_is_called_after_its_arm() {
        assert_eq!(control_name("eigenmix"), "eigenmix-random");
        assert_eq!(control_name("mix, rank = 2"), "mix-random, rank = 2");
        assert_eq!(
            control_name("mix/rank-2/seed-0"),
            "mix-random/rank-2/seed-0"
        );
    }
}
