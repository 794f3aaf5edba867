//! What the command line asks for.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A registry that was running before.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// What the report calls it.
    pub(crate) name: String,
    /// Host and port.
    pub(crate) authority: String,
}

/// What all parts are told.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The parts that are asked for; all, when none is.
    pub(crate) parts: Vec<String>,
    /// How often each thing is measured, after one round that warms up.
    pub(crate) rounds: usize,
    /// Whether everything is to be as small as shows that it runs.
    pub(crate) quick: bool,
    /// Where the report goes.
    pub(crate) out: PathBuf,
    /// Whether the report goes into the documents too.
    pub(crate) publish: bool,
    /// Whether only the report is made again, of what was measured before.
    pub(crate) redraw: bool,
    /// Other registries.
    pub(crate) peers: Vec<Peer>,
    stores: Option<PathBuf>,
    temporary: TempDir,
}

impl Setting {
    /// Reads the command line of this program.
    pub(crate) fn from_arguments() -> Setting {
        let mut setting = Setting {
            parts: Vec::new(),
            rounds: 7,
            quick: false,
            out: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/speed")),
            publish: false,
            redraw: false,
            peers: Vec::new(),
            stores: None,
            temporary: TempDir::with_prefix("orlop-bench-").expect("a temporary folder can be made"),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
            match argument.as_str() {
                // Cargo passes it.
                "--bench" => {}
                "--quick" => (setting.quick, setting.rounds) = (true, 2),
                "--publish" => setting.publish = true,
                "--redraw" => setting.redraw = true,
                "--rounds" => setting.rounds = value().parse().expect("a number of rounds"),
                "--out" => setting.out = value().into(),
                "--stores" => setting.stores = Some(value().into()),
                "--peer" => setting.peers.push(Peer::parse(&value())),
                part => {
                    assert!(!part.starts_with('-'), "there is no option {part:?}");
                    setting.parts.push(part.to_owned());
                }
            }
        }
        setting
    }

    /// A new folder for a server's data, on the disk that is measured; it goes with the value.
    pub(crate) fn folder(&self) -> TempDir {
        TempDir::with_prefix_in("data-", self.temporary.path()).expect("a folder can be made")
    }

    /// Where stores lie that take long to make, kept for the next time if `--stores` says so.
    pub(crate) fn stores(&self) -> &Path {
        self.stores.as_deref().unwrap_or(self.temporary.path())
    }

    /// One of two values: what is measured, and the little that shows that it runs.
    pub(crate) fn or_quick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

impl Peer {
    fn parse(text: &str) -> Peer {
        let parsed = text.split_once('=').and_then(|(name, url)| {
            let authority = url.strip_prefix("http://")?.trim_end_matches('/');
            Some(Peer { name: name.to_owned(), authority: authority.to_owned() })
        });
        parsed.unwrap_or_else(|| panic!("--peer {text:?}: write NAME=http://HOST:PORT"))
    }
}
