//! Passwords that people type, or that scripts hand over.

use std::io::{self, BufRead, IsTerminal};

use anyhow::{Context, bail};

/// The longest line that is read.
const MOST: u64 = 4096;

/// Asks for a new password twice, on the terminal and without showing it; reads one line of standard input where that is no
/// terminal, or where it is to be so.
pub(super) fn new_password(from_stdin: bool) -> anyhow::Result<String> {
    if from_stdin || !io::stdin().is_terminal() {
        return line(io::stdin().lock());
    }
    let ask = |what| rpassword::prompt_password(what).context("cannot ask for the password on the terminal");
    let password = ask("Password: ")?;
    if password != ask("The same again: ")? {
        bail!("the two passwords differ; nothing is changed");
    }
    Ok(password)
}

/// One line without its end.
fn line(input: impl BufRead) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let mut input = input.take(MOST + 1);
    input.read_until(b'\n', &mut bytes).context("cannot read the password from standard input")?;
    if bytes.len() as u64 > MOST {
        bail!("the first line of standard input is no password: it has more than {MOST} bytes");
    }
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        bail!("there is no password in the first line of standard input");
    }
    String::from_utf8(line.to_vec()).context("the password is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line() {
        for (text, password) in [("sesame\n", "sesame"), ("a b\r\nmore", "a b"), ("x", "x"), (" y \n", " y ")]
        {
            assert_eq!(line(text.as_bytes()).unwrap(), password);
        }
        let long = "x".repeat(5000);
        for text in ["", "\n", "\r\n", "\nsecond\n", long.as_str()] {
            assert!(line(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(line(&b"\xff\n"[..]).is_err());
    }
}
