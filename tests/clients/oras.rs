//! oras for Python, which pushes and pulls files.

use std::path::PathBuf;
use std::process::Command;

use crate::Host;
use crate::process::try_to_run;

/// The release that tests/all installs.
const VERSION: &str = "0.2.43";

/// How oras shows who it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scheme {
    /// By a token that it fetches.
    Token,
    /// By user and password with each request.
    Basic,
}

/// oras with folders of its own.
#[derive(Debug)]
pub(crate) struct Oras {
    host: Host,
    scheme: Scheme,
}

impl Oras {
    /// oras as it is on this host.
    pub(crate) fn on(host: Host, scheme: Scheme) -> Oras {
        std::fs::create_dir_all(host.path("pulled")).expect("a folder can be made");
        Oras { host, scheme }
    }

    /// Pushes a file with this text, as somebody with `user:password`.
    pub(crate) fn push(&self, text: &str, reference: &str, credentials: Option<&str>) -> Result<(), String> {
        self.host.write("hello", text);
        self.run("push", reference, "", credentials).map(|_| ())
    }

    /// Pulls a file, and returns its text.
    pub(crate) fn pull(&self, reference: &str, credentials: Option<&str>) -> Result<String, String> {
        let _ = std::fs::remove_file(self.host.path("pulled/hello"));
        self.run("pull", reference, "pulled", credentials)
    }

    fn run(
        &self,
        verb: &str,
        reference: &str,
        folder: &str,
        credentials: Option<&str>,
    ) -> Result<String, String> {
        let mut command = Command::new(python());
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/oras_client.py"));
        command.args([verb, reference]).arg(self.host.path(folder)).arg(match self.scheme {
            Scheme::Token => "token",
            Scheme::Basic => "basic",
        });
        command.args(credentials).env("HOME", self.host.path("home")).env("NO_PROXY", "127.0.0.1");
        try_to_run(&mut command)
    }
}

/// The Python that has oras.
fn python() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    let python = cache.expect("there is a home").join(format!("orlop-tools/oras-{VERSION}/bin/python"));
    assert!(
        python.is_file(),
        "`{}` is missing: run tests/all, which installs oras {VERSION}",
        python.display()
    );
    python
}
