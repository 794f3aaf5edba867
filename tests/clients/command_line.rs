//! The command line in a shell: bash completes it, and groff has nothing to say against its manual pages.

use std::path::Path;
use std::process::Command;

use crate::process::{find, run};

/// What bash offers behind a command line that isn't finished.
fn completed(line: &str) -> Vec<String> {
    // As bash does when somebody presses the tabulator: by the function that is registered for the program.
    let script = "
        source <(\"$1\" completions bash)
        COMP_LINE=$2; COMP_POINT=${#COMP_LINE}
        read -r -a COMP_WORDS <<<\"$COMP_LINE\"
        [[ $COMP_LINE == *' ' ]] && COMP_WORDS+=('')
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        function=$(complete -p orlop | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        \"$function\" orlop \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"
        printf '%s\\n' \"${COMPREPLY[@]}\"
    ";
    let mut bash = Command::new(find("bash"));
    bash.args(["--norc", "-euc", script, "bash", env!("CARGO_BIN_EXE_orlop"), line]);
    run(&mut bash).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_verbs_and_flags() {
    let commands = completed("orlop ");
    for command in ["serve", "status", "ls", "tags", "inspect", "rm", "du", "backup", "completions"] {
        assert!(commands.iter().any(|offered| offered == command), "{command} in {commands:?}");
    }
    assert_eq!(completed("orlop insp"), ["inspect"]);
    assert_eq!(completed("orlop backup cre"), ["create"]);
    assert_eq!(completed("orlop backup create --incl"), ["--include-cache"]);
    assert_eq!(completed("orlop rm --y"), ["--yes"]);
    assert_eq!(completed("orlop completions ba"), ["bash"]);
}

#[test]
fn the_manual_pages_are_as_they_should_be() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let write = ["man", "--dir"];
    run(Command::new(env!("CARGO_BIN_EXE_orlop")).args(write).arg(folder.path()));
    let pages = std::fs::read_dir(folder.path()).expect("it is there");
    let pages: Vec<_> = pages.map(|page| page.expect("it can be read").path()).collect();
    assert!(pages.len() > 40, "{pages:?}");
    for page in &pages {
        let lint = Command::new(find("groff")).args(["-man", "-Tutf8", "-ww", "-z"]).arg(page).output();
        let lint = lint.expect("groff runs");
        assert!(lint.status.success() && lint.stderr.is_empty(), "{}: {lint:?}", page.display());
    }
    let shown = |page: &str| {
        run(Command::new(find("groff"))
            .args(["-man", "-Tutf8", "-P-cbou"])
            .arg(Path::new(folder.path()).join(page)))
    };
    let create = shown("orlop-backup-create.1");
    for part in ["SYNOPSIS", "--include-cache", "EXAMPLES", "orlop backup create /mnt/backup", "EXIT STATUS"]
    {
        assert!(create.contains(part), "{part} in {create}");
    }
    assert!(shown("orlop-rm.1").contains("team/app@sha256:…"));
}
