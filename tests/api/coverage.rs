//! That the suite claims what it says it claims, and that its harness sees what it says it sees.

use crate::support::Server;

/// The rows of the distribution specification's table of end-points, those of its development branch included.
const ROWS: [&str; 19] = [
    "1", "2", "3", "4a", "4b", "4c", "5", "6", "7a", "7b", "8a", "8b", "9", "10", "11", "12a", "12b", "13",
    "14",
];

/// The sections whose bullets have tests.
const SECTIONS: [&str; 9] = ["1_1", "1_3", "1_4", "1_5", "1_6", "1_7", "1_8", "1_9", "2_1"];

fn sources() -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/api");
    let files = std::fs::read_dir(folder).unwrap();
    files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect()
}

#[test]
fn every_row_of_the_table_of_end_points_has_a_test() {
    let sources = sources();
    for row in ROWS {
        assert!(sources.contains(&format!("fn row_{row}_")), "row {row}");
    }
}

#[test]
fn every_section_has_a_test() {
    let sources = sources();
    for section in SECTIONS {
        assert!(sources.contains(&format!("fn s{section}_")), "section {section}");
    }
}

#[test]
fn the_harness_sees_one_damaged_byte_and_one_missing_file() {
    let mut server = Server::start();
    let digest = server.push_blob("a", b"content");
    server.stop();
    let (algorithm, hex) = digest.split_once(':').unwrap();
    let file = server.data().join("blobs").join(algorithm).join(&hex[..2]).join(hex);
    assert!(server.problems().is_empty());

    std::fs::write(&file, b"contenT").unwrap();
    assert!(server.problems().iter().any(|problem| problem.contains(hex)), "{:?}", server.problems());
    std::fs::remove_file(&file).unwrap();
    assert!(server.problems().iter().any(|problem| problem.contains(hex)), "{:?}", server.problems());
    // Whole again, as the harness will find it.
    std::fs::write(&file, b"content").unwrap();
}
