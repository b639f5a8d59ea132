//! Chooses the settings of the host's apt that are taken over: those for how the archive is reached, and none
//! that weakens how packages are verified.
//!
//! Pure: takes the text of `apt-config dump`. It is a list of what may pass, because apt gets new settings
//! with each release, and one of them may be another way to accept unsigned packages. Names and values:
//! apt.conf(5), apt-transport-http(1), apt-transport-https(1).

/// Settings for all ways of fetching.
const GENERAL: [&str; 6] =
    ["Retries", "Retries::Delay", "Retries::Delay::Maximum", "ForceIPv4", "ForceIPv6", "Timeout"];
/// Settings for http and https; each also for one host, whose name stands before or after it.
const OF_HTTP: [&str; 9] = [
    "Proxy",
    "Timeout",
    "ConnectionAttemptDelayMsec",
    "Pipeline-Depth",
    "Dl-Limit",
    "No-Cache",
    "No-Store",
    "Max-Age",
    "User-Agent",
];
/// Settings of https: the certificates that count, and our own.
const OF_HTTPS: [&str; 6] = ["CaInfo", "CaPath", "CrlFile", "IssuerCert", "SslCert", "SslKey"];

/// Settings that accept unsigned or unauthenticated packages if they are on.
const WEAK_IF_ON: [&str; 5] = [
    "AllowInsecureRepositories",
    "AllowWeakRepositories",
    "AllowDowngradeToInsecureRepositories",
    "AllowUnauthenticated",
    "TrustCDROM",
];
/// Settings that accept such packages, or old lists, if they are off.
const WEAK_IF_OFF: [&str; 4] = ["Verify-Peer", "Verify-Host", "Check-Valid-Until", "Check-Date"];
/// Settings that accept old lists if they have a value.
const WEAK_IF_SET: [&str; 3] = ["Min-ValidTime", "Max-ValidTime", "Max-FutureTime"];
/// Settings that name a program, which would be run as our user.
const PROGRAMS: [&str; 2] = ["Proxy-Auto-Detect", "ProxyAutoDetect"];

/// The host's settings, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Acquire {
    /// Settings that are taken over, as configuration text.
    pub(crate) text: String,
    /// Settings that are not taken over, though they matter: each with the reason.
    pub(crate) left_out: Vec<String>,
}

/// Sorts the output of `apt-config dump`.
pub(crate) fn sort(dump: &str) -> Acquire {
    let mut all = Acquire::default();
    for line in dump.lines() {
        let Some((name, value)) = parse(line) else { continue };
        if is_taken_over(name) {
            all.text += line;
            all.text.push('\n');
        } else if let Some(why) = why_not(name, value) {
            all.left_out.push(format!("{name} \"{value}\" {why}"));
        }
    }
    all
}

/// `Acquire::http::Proxy "http://proxy";`
fn parse(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.split_once(' ')?;
    let value = rest.trim_end().strip_suffix(';')?.trim().strip_prefix('"')?.strip_suffix('"')?;
    // A quote within it would end it early, and begin something else.
    let is_plain =
        !value.contains(['"', '\\']) && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    is_plain.then_some((name, value))
}

fn is_one_of(names: &[&str], name: &str) -> bool {
    names.iter().any(|one| one.eq_ignore_ascii_case(name))
}

fn is_taken_over(name: &str) -> bool {
    let Some((first, rest)) = name.split_once("::") else { return false };
    if !first.eq_ignore_ascii_case("Acquire") {
        return false;
    }
    if is_one_of(&GENERAL, rest) {
        return true;
    }
    let Some((method, rest)) = rest.split_once("::") else { return false };
    let is_https = method.eq_ignore_ascii_case("https");
    if !is_https && !method.eq_ignore_ascii_case("http") {
        return false;
    }
    let is_known = |name: &str| is_one_of(&OF_HTTP, name) || is_https && is_one_of(&OF_HTTPS, name);
    match rest.split_once("::") {
        None => is_known(rest),
        Some((one, other)) => is_known(one) && is_host(other) || is_host(one) && is_known(other),
    }
}

/// True for a host's name; false for the name of a setting.
fn is_host(name: &str) -> bool {
    let is_plain = !name.contains("::") && name.contains(['.', ':', '-']) || name == "localhost";
    let all = [&WEAK_IF_ON[..], &WEAK_IF_OFF, &WEAK_IF_SET, &PROGRAMS];
    is_plain && !all.iter().any(|names| is_one_of(names, name))
}

/// Why a setting that somebody made is not taken over; `None` if it is harmless, or apt's own business.
fn why_not(name: &str, value: &str) -> Option<&'static str> {
    let has = |names: &[&str]| name.split("::").any(|part| is_one_of(names, part));
    // As apt reads them (StringToBool); what is empty is not set.
    let is_on = is_one_of(&["yes", "true", "with", "on", "enable"], value)
        || value.parse() != Ok(0) && value.parse::<i64>().is_ok();
    let is_off = is_one_of(&["no", "false", "without", "off", "disable"], value) || value.parse() == Ok(0);
    let is_weak =
        has(&WEAK_IF_ON) && is_on || has(&WEAK_IF_OFF) && is_off || has(&WEAK_IF_SET) && !value.is_empty();
    if is_weak {
        Some("would weaken how packages are verified")
    } else if has(&PROGRAMS) && !value.is_empty() {
        Some("runs a program: name the proxy by Acquire::http::Proxy instead")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `line` is taken over, and whether it is named as left out.
    fn check(line: &str, is_taken: bool, is_said: bool) {
        let found = sort(line);
        assert_eq!(found.text, if is_taken { format!("{line}\n") } else { String::new() }, "{line}");
        assert_eq!(found.left_out.len(), usize::from(is_said), "{line}: {:?}", found.left_out);
    }

    #[test]
    fn how_the_archive_is_reached_is_taken_over() {
        for line in [
            "Acquire::http::Proxy \"http://proxy.example:3128\";",
            "Acquire::http::Proxy::deb.example.org \"DIRECT\";",
            "Acquire::https::Proxy \"http://user:word@proxy.example\";",
            "acquire::HTTPS::proxy \"http://proxy.example\";",
            "Acquire::http::Timeout \"10\";",
            "Acquire::https::Timeout::deb.example.org \"10\";",
            "Acquire::http::ConnectionAttemptDelayMsec \"100\";",
            "Acquire::Retries \"7\";",
            "Acquire::Retries::Delay \"false\";",
            "Acquire::ForceIPv4 \"true\";",
            "Acquire::ForceIPv6 \"1\";",
            "Acquire::https::CaInfo \"/etc/ssl/own.pem\";",
            "Acquire::https::CAPath \"/etc/ssl/certs\";",
            "Acquire::https::deb.example.org::SslCert \"/etc/ssl/me.pem\";",
            "Acquire::https::deb.example.org::SslKey \"/etc/ssl/me.key\";",
        ] {
            check(line, true, false);
        }
    }

    #[test]
    fn what_is_believed_is_not_and_is_said() {
        for line in [
            "Acquire::AllowInsecureRepositories \"true\";",
            "Acquire::AllowWeakRepositories \"1\";",
            "Acquire::AllowDowngradeToInsecureRepositories \"yes\";",
            "acquire::allowinsecurerepositories \"on\";",
            "Acquire::https::Verify-Peer \"false\";",
            "Acquire::https::deb.example.org::Verify-Peer \"false\";",
            "Acquire::https::Verify-Peer::deb.example.org \"0\";",
            "Acquire::https::Verify-Host \"no\";",
            "Acquire::Check-Valid-Until \"false\";",
            "Acquire::Check-Valid-Until::Debian \"false\";",
            "Acquire::Check-Date \"off\";",
            "Acquire::Max-ValidTime \"864000\";",
            "Acquire::Max-ValidTime::Debian \"864000\";",
            "Acquire::Min-ValidTime \"864000\";",
            "APT::Get::AllowUnauthenticated \"true\";",
            "Acquire::http::Proxy-Auto-Detect \"/usr/bin/auto-apt-proxy\";",
            "Acquire::http::ProxyAutoDetect \"/usr/bin/auto-apt-proxy\";",
        ] {
            check(line, false, true);
        }
    }

    #[test]
    fn what_does_no_harm_or_is_ours_is_not_worth_a_word() {
        for line in [
            "Acquire \"\";",
            "Acquire::AllowInsecureRepositories \"0\";",
            "Acquire::Check-Valid-Until \"true\";",
            "Acquire::https::Verify-Peer \"true\";",
            "Acquire::http::Proxy-Auto-Detect \"\";",
            "Acquire::Languages \"de\";",
            "Acquire::IndexTargets::deb::Packages::MetaKey \"x\";",
            "Acquire::Something-New::Of::Next::Year \"true\";",
            "Acquire::http::Something-New \"true\";",
            "Acquire::http::CaInfo \"/etc/ssl/own.pem\";",
            "DPkg::Post-Invoke:: \"rm\";",
            "APT::Update::Pre-Invoke:: \"rm\";",
            // Nothing hides behind a value or a host's name.
            "Acquire::http::Proxy \"x\"; Acquire::AllowInsecureRepositories \"true\";",
            "Acquire::http::Proxy::a.b::Verify-Something \"x\";",
            "Acquire::http::Verify-Peer::Proxy \"x\";",
            "not a line",
            "",
        ] {
            check(line, false, false);
        }
    }
}
