//! The data set CLINC150, a folder for each domain.

use std::path::Path;

use eigenmix_data::{DataConfig, LabelPolicy, Split, read_split};

pub fn every_row_is_read(clinc150: &Path) {
    let config = DataConfig::new("unused");
    for (split, expected) in [
        (Split::Train, 1500),
        (Split::Validation, 300),
        (Split::Test, 450),
    ] {
        let travel = clinc150.join("travel");
        let rows = read_split(&travel, split, &config, LabelPolicy::Required).expect("rows");
        assert_eq!(rows.len(), expected, "{split:?}");
    }
}
