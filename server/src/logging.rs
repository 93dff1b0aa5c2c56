//! What the program says while it runs: to stderr, filtered, so that stdout stays for results.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The variable that sets the filter where no flag does.
pub const VARIABLE: &str = "TERCET_LOG";

/// The filter where nothing else says so.
pub const DEFAULT: &str = "info";

/// A filter that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{problem}; use error, warn, info, debug or trace, or per module such as \"info,leader=debug\""
)]
pub struct FilterError {
    problem: String,
}

/// Reads a filter.
pub fn filter(text: &str) -> Result<EnvFilter, FilterError> {
    let refuse = |problem: String| FilterError { problem };
    // A bare word that is no level would be taken for a module that never logs.
    for part in text.split(',').map(str::trim) {
        let bare = !part.contains(['=', '[', ':']) && !part.is_empty();
        if bare && part.parse::<tracing_subscriber::filter::LevelFilter>().is_err() {
            return Err(refuse(format!("{part:?} is no log level")));
        }
    }
    EnvFilter::builder().parse(text).map_err(|error| refuse(error.to_string()))
}

/// The filter as it is meant: without a word about it, the consensus core is heard only when it
/// fails, for it tells every heartbeat that a busy machine delays. `debug` and `trace` mean all.
fn meant(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let all = ["openraft", "debug", "trace"].iter().any(|word| lower.contains(word));
    if all { text.to_owned() } else { format!("{text},openraft=error") }
}

/// Where a filter came from, in the order of precedence.
pub fn choose<'a>(
    flag: Option<&'a str>,
    variable: Option<&'a str>,
    file: Option<&'a str>,
    otherwise: &'a str,
) -> &'a str {
    flag.or(variable.filter(|text| !text.is_empty())).or(file).unwrap_or(otherwise)
}

/// Starts logging to stderr. A second call changes nothing.
pub fn start(text: &str) -> Result<(), FilterError> {
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter(&meant(text))?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
    // Somebody else in this process already listens: as good.
    drop(started);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_or_refused_with_a_hint() {
        for good in ["info", "DEBUG", "warn,leader=debug", "off", "info,server::http=trace"] {
            filter(good).unwrap_or_else(|e| panic!("{good}: {e}"));
        }
        for bad in ["loud", "info,noisy", "leader=loud"] {
            let error = filter(bad).unwrap_err().to_string();
            assert!(error.contains("use error, warn, info"), "{bad}: {error}");
        }
    }

    #[test]
    fn the_core_is_quiet_unless_it_is_asked_for() {
        assert_eq!(meant("info"), "info,openraft=error");
        for text in ["debug", "info,leader=trace", "warn,openraft=info"] {
            assert_eq!(meant(text), text);
        }
        filter(&meant("info")).unwrap();
    }

    #[test]
    fn the_flag_wins_over_the_variable_over_the_file() {
        assert_eq!(choose(Some("a"), Some("b"), Some("c"), "d"), "a");
        assert_eq!(choose(None, Some("b"), Some("c"), "d"), "b");
        assert_eq!(choose(None, Some(""), Some("c"), "d"), "c");
        assert_eq!(choose(None, None, None, "d"), "d");
    }
}
