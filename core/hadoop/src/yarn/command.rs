//! Quoting for `launch_container.sh`, the script with which a NodeManager starts a container.
//!
//! The NodeManager (`ContainerLaunch`) writes the launch context into that script like this, each time after it
//! has replaced `<LOG_DIR>` by the log directory, `<CPS>` by `:`, `{{` by `$` and `}}` by nothing:
//!
//! ```text
//! export KEY="value"
//! exec /bin/bash -c "command"
//! ```
//!
//! So a value is read once by bash, inside double quotes, and a command twice: first inside double quotes, then
//! as a command line. The functions here take literal text and give what must be sent so that the process sees
//! that text; [`Command`] is the whole command line. Nothing here expands, guesses or splits.

use thiserror::Error;

/// The NodeManager's marker for the container's log directory.
const LOG_DIR: &str = "<LOG_DIR>";

/// Text that the launch script cannot carry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QuoteError {
    /// A line break or NUL: the script would end in the middle of a line.
    #[error("{what} must not contain line breaks or NUL characters: {text:?}")]
    ControlCharacter {
        /// Which text: `environment variable FOO`, `argument 3 of the command`.
        what: String,
        /// The text.
        text: String,
    },
    /// Not a name that `export` takes.
    #[error(
        "{name:?} is not an environment variable name: letters, digits and `_`, not starting with a digit"
    )]
    VariableName {
        /// The name.
        name: String,
    },
}

/// What to send as the value of an environment variable so that the process sees exactly `text`.
pub fn environment_value(name: &str, text: &str) -> Result<String, QuoteError> {
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(letters) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(QuoteError::VariableName { name: name.to_owned() });
    }
    refuse_control(|| format!("environment variable {name}"), text)?;
    Ok(break_markers(&in_double_quotes(text), "\"\""))
}

/// What to send as one word of a command so that the process sees exactly `text` as one argument.
///
/// `position` is the argument's number, for the error message.
pub fn argument(position: usize, text: &str) -> Result<String, QuoteError> {
    refuse_control(|| format!("argument {position} of the command"), text)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-+./:=,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    // Single quotes for the inner bash; the outer one reads the result inside double quotes. Both empty pairs of
    // single quotes that break a marker belong to the inner level, where they stand inside the quoted word.
    let inner = format!("'{}'", break_markers(&text.replace('\'', r"'\''"), "''"));
    Ok(in_double_quotes(&inner))
}

/// A command line whose output goes to files in the container's log directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    words: Vec<String>,
    stdout: String,
    stderr: String,
}

impl Command {
    /// Runs `program`, with output to the log files `stdout` and `stderr`.
    pub fn new(program: impl Into<String>) -> Self {
        Command { words: vec![program.into()], stdout: "stdout".into(), stderr: "stderr".into() }
    }

    /// Adds an argument, given literally.
    pub fn arg(mut self, text: impl Into<String>) -> Self {
        self.words.push(text.into());
        self
    }

    /// Adds arguments, given literally.
    pub fn args<T: Into<String>>(mut self, texts: impl IntoIterator<Item = T>) -> Self {
        self.words.extend(texts.into_iter().map(Into::into));
        self
    }

    /// The command as the launch context carries it.
    ///
    /// `exec`, so that SIGTERM reaches the program and not a shell that waits for it; the redirects, because
    /// output without them is lost.
    pub fn to_line(&self) -> Result<String, QuoteError> {
        let words: Vec<String> =
            self.words.iter().enumerate().map(|(i, word)| argument(i, word)).collect::<Result<_, _>>()?;
        let (stdout, stderr) = (argument(words.len(), &self.stdout)?, argument(words.len(), &self.stderr)?);
        Ok(format!("exec {} 1>{LOG_DIR}/{stdout} 2>{LOG_DIR}/{stderr}", words.join(" ")))
    }
}

fn refuse_control(what: impl FnOnce() -> String, text: &str) -> Result<(), QuoteError> {
    if text.contains(['\n', '\r', '\0']) {
        return Err(QuoteError::ControlCharacter { what: what(), text: text.to_owned() });
    }
    Ok(())
}

/// Escapes what bash expands between double quotes.
fn in_double_quotes(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if matches!(c, '\\' | '"' | '$' | '`') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Puts `nothing` (an empty pair of quotes that bash drops) into whatever the NodeManager would replace.
fn break_markers(text: &str, nothing: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        let rest = &text[at..];
        let brace = (c == '{' && previous == '{') || (c == '}' && previous == '}');
        if brace {
            out.push_str(nothing);
        }
        out.push(c);
        if rest.starts_with(LOG_DIR) || rest.starts_with("<CPS>") {
            out.push_str(nothing);
        }
        previous = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRICKY: &[&str] = &[
        "",
        "plain",
        "two words",
        "a\"b",
        "it's",
        "''",
        "back\\slash",
        "trailing\\",
        "$HOME ${HOME} $(id) `id` $$",
        "a;b&c|d>e<f*?[x]~!#(y)",
        "{{CONTAINER_ID}}",
        "{\"a\":{\"b\":{}}}",
        "{{{ }}} {{}} }}{{",
        "<LOG_DIR>/x:<CPS>",
        "<<LOG_DIR>>",
        "tab\there",
        "naïve Größe 字",
        "'{{'<LOG_DIR>'}}'",
        "-n",
        "--key=va lue",
    ];

    /// What `ContainerLaunch.expandEnvironment` does on Unix.
    fn as_node_manager(text: &str) -> String {
        text.replace("<LOG_DIR>", "/logs").replace("<CPS>", ":").replace("{{", "$").replace("}}", "")
    }

    fn bash(script: &str) -> String {
        let out =
            std::process::Command::new("/bin/bash").args(["-c", script]).env_remove("V").output().unwrap();
        assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    fn value_seen(text: &str) -> String {
        let sent = environment_value("V", text).unwrap();
        bash(&format!("export V=\"{}\"\nprintenv V | head -c -1", as_node_manager(&sent)))
    }

    fn arguments_seen(texts: &[&str]) -> String {
        let words = ["exec", "/usr/bin/printf", "%s\\n"].iter().chain(texts);
        let words: Vec<_> = words.enumerate().map(|(i, t)| argument(i, t).unwrap()).collect();
        let line = as_node_manager(&words.join(" "));
        bash(&format!("exec /bin/bash -c \"{line}\""))
    }

    #[test]
    fn environment_values_arrive_as_they_were_written() {
        for text in TRICKY {
            assert_eq!(&value_seen(text), text);
        }
    }

    #[test]
    fn arguments_arrive_as_they_were_written() {
        let expected: String = TRICKY.iter().map(|t| format!("{t}\n")).collect();
        assert_eq!(arguments_seen(TRICKY), expected);
    }

    #[test]
    fn line_breaks_and_bad_names_are_refused() {
        for text in ["a\nb", "a\rb", "a\0b"] {
            assert!(matches!(environment_value("V", text), Err(QuoteError::ControlCharacter { .. })));
            assert!(matches!(argument(1, text), Err(QuoteError::ControlCharacter { .. })));
        }
        for name in ["", "1A", "A-B", "A B", "Ä"] {
            assert!(matches!(environment_value(name, "x"), Err(QuoteError::VariableName { .. })), "{name}");
        }
    }

    #[test]
    fn a_command_line_reads_like_one() {
        let line =
            Command::new("./ringspin").arg("container").args(["--job", "job file.toml"]).to_line().unwrap();
        assert_eq!(
            line,
            "exec ./ringspin container --job 'job file.toml' 1><LOG_DIR>/stdout 2><LOG_DIR>/stderr"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_text_without_line_breaks_survives(text in r#"[ -~äé]{0,24}|[{}<>LOG_DIRCPS'"\\$`]{0,24}"#) {
            prop_assert_eq!(value_seen(&text), text.clone());
            prop_assert_eq!(arguments_seen(&[&text]), format!("{text}\n"));
        }
    }
}
