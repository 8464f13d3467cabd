//! Why weights are of no known architecture: what is missing, left over or of another shape, for the closest ones.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::Architecture;
use crate::weights::Weights;

/// The most architectures that a message tells about.
const MOST_LISTED: usize = 3;
/// The most tensors that a message names for one reason.
const MOST_NAMED: usize = 2;

/// Why no architecture fits.
pub(super) struct Refusal {
    /// The closest architectures and what does not fit, for people.
    pub(super) message: String,
    closeness: Closeness,
}

/// The tensors whose names an architecture has, what does not fit, and whether it could read off its hyper-parameters.
type Closeness = (usize, Reverse<usize>, bool);

impl Refusal {
    /// `attempts` are the architectures, each with what building it ran into, if it came to that.
    pub(super) fn new<'a>(
        attempts: impl Iterator<Item = (&'a Architecture, Option<String>)>,
        weights: &Weights,
    ) -> Self {
        let mut misfits: Vec<(Closeness, String)> =
            attempts.map(|(architecture, refusal)| misfit(architecture, weights, refusal)).collect();
        misfits.sort_by_key(|&(closeness, _)| Reverse(closeness));
        misfits.retain(|&((known, ..), _)| known > 0);
        let beginning = "these weights are of no architecture that sonolume knows";
        let message = if misfits.is_empty() {
            let known: Vec<&str> = super::architectures().collect();
            let names = list(weights.names().collect()).unwrap_or_default();
            format!(
                "{beginning}, and there is no closest one: none has tensors such as {names}. Known are {}",
                known.join(", ")
            )
        } else {
            let mut lines = vec![format!("{beginning}; the closest are")];
            lines.extend(misfits.iter().take(MOST_LISTED).map(|(_, text)| text.clone()));
            lines.join("\n")
        };
        Self { message, closeness: misfits.first().map(|&(closeness, _)| closeness).unwrap_or((0, Reverse(0), false)) }
    }

    pub(super) fn is_closer_than(&self, other: &Self) -> bool {
        self.closeness > other.closeness
    }
}

/// How close an architecture is, and a line about what does not fit.
fn misfit(architecture: &Architecture, weights: &Weights, refusal: Option<String>) -> (Closeness, String) {
    let patterns: Vec<Pattern> = architecture.signature.iter().map(|text| Pattern::parse(text)).collect();
    let is_known = |name: &&str| patterns.iter().any(|pattern| pattern.covers(name));
    let (known, strangers): (Vec<&str>, Vec<&str>) = weights.names().partition(is_known);
    let recognised = refusal.is_some();
    let mut reasons: Vec<String> = refusal.into_iter().collect();
    if !recognised {
        let needed = patterns.iter().filter(|pattern| !pattern.optional);
        for complaint in needed.filter_map(|pattern| pattern.complaint(&known, weights)) {
            if !reasons.contains(&complaint) {
                reasons.push(complaint);
            }
        }
    }
    let strangers = strangers.into_iter().filter(|name| !reasons.iter().any(|reason| reason.contains(*name)));
    reasons.extend(list(strangers.collect()).map(|names| format!("it has no {names}")));
    if reasons.is_empty() {
        let shape = |name: &&str| format!("`{name}` {:?}", weights.stored_shape(name).unwrap_or_default());
        let ends: Vec<String> = [known.first(), known.last()].into_iter().flatten().map(shape).collect();
        reasons.push(format!("their number or their shapes do not go together ({} ...)", ends.join(", ")));
    }
    let (name, tensors) = (architecture.name, weights.names().count());
    let closeness = (known.len(), Reverse(reasons.len()), recognised);
    let names_what_is_missing = recognised || reasons.iter().any(|reason| reason.contains("is missing"));
    if !names_what_is_missing && 2 * known.len() > tensors {
        let absent = weights.names().find_map(|name| missing_sibling(name, weights));
        reasons.extend(absent.map(|name| format!("`{name}` may be missing")));
    }
    let line = format!("  {name} ({} of {tensors} tensors have its names): {}", known.len(), reasons.join("; "));
    (closeness, line)
}

/// What is said of tensors that a recognised architecture does not have, and of what may be missing before them.
pub(super) fn left_over(details: &str, leftovers: &[&str], weights: &Weights) -> String {
    let names = list(leftovers.to_vec()).unwrap_or_default();
    let hint = leftovers.first().and_then(|name| missing_sibling(name, weights));
    let hint = hint.map(|name| format!("; `{name}` may be missing")).unwrap_or_default();
    format!("by the other tensors it is {details}, which has no {names}{hint}")
}

/// A tensor that should stand beside `name`: a bias's weight, or what the first of a row of like modules has and this one
/// has not.
fn missing_sibling(name: &str, weights: &Weights) -> Option<String> {
    let weight = name.strip_suffix(".bias").map(|layer| format!("{layer}.weight"));
    if weight.as_ref().is_some_and(|weight| weights.stored_shape(weight).is_none()) {
        return weight;
    }
    let parts: Vec<&str> = name.split('.').collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    parts.iter().enumerate().filter(|(_, part)| is_number(part)).find_map(|(at, _)| {
        let stem = parts[..at].iter().map(|part| format!("{part}.")).collect::<String>();
        let tails = |index: &str| -> BTreeSet<&str> {
            let module = format!("{stem}{index}.");
            weights.names().filter_map(|name| name.strip_prefix(&module)).collect()
        };
        let (first, this) = (tails("0"), tails(parts[at]));
        let absent = first.difference(&this).collect::<Vec<_>>();
        let alike = 2 * absent.len() <= first.len();
        absent.first().filter(|_| alike).map(|tail| format!("{stem}{}.{tail}", parts[at]))
    })
}

/// The first of `names` and how many more there are.
fn list(names: Vec<&str>) -> Option<String> {
    let shown: Vec<String> = names.iter().take(MOST_NAMED).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(MOST_NAMED);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!names.is_empty()).then(|| shown.join(", ") + &tail)
}

/// One entry of a signature.
struct Pattern<'a> {
    /// True if a generator may lack it.
    optional: bool,
    /// The names, of which one is needed.
    names: Vec<&'a str>,
    /// The number of axes that its tensors have.
    axes: Option<usize>,
}

impl<'a> Pattern<'a> {
    fn parse(text: &'a str) -> Self {
        let (optional, rest) = text.strip_prefix('?').map_or((false, text), |rest| (true, rest));
        let (names, axes) = rest.split_once(':').map_or((rest, None), |(names, axes)| (names, axes.parse().ok()));
        Self { optional, names: names.split('|').collect(), axes }
    }

    fn covers(&self, name: &str) -> bool {
        self.names.iter().any(|pattern| matches(pattern, name))
    }

    /// What is wrong with the tensors that this stands for.
    fn complaint(&self, known: &[&str], weights: &Weights) -> Option<String> {
        let mut covered = known.iter().filter(|name| self.covers(name)).peekable();
        if covered.peek().is_none() {
            return Some(format!("`{}` is missing", self.names.join("` or `")));
        }
        let misshapen = |name: &&&str| {
            let shape = weights.stored_shape(name).unwrap_or_default();
            shape.contains(&0) || self.axes.is_some_and(|axes| axes != shape.len())
        };
        let name = covered.find(misshapen)?;
        let expected =
            self.axes.map_or_else(|| "no axis of size 0".to_owned(), |axes| format!("a shape of {axes} axes"));
        Some(format!(
            "tensor `{name}` has shape {:?}; {expected} is expected",
            weights.stored_shape(name).unwrap_or_default()
        ))
    }
}

/// What PyTorch's layers call their tensors.
const PARAMETERS: &[&str] = &["weight", "bias", "running_mean", "running_var", "num_batches_tracked"];

/// True if `name` fits `pattern`, in which `*` stands for anything, `#` for a number and `@` for one of [`PARAMETERS`].
fn matches(pattern: &str, name: &str) -> bool {
    let Some(at) = pattern.find(['*', '#', '@']) else { return pattern == name };
    let (head, tail) = (&pattern[..at], &pattern[at + 1..]);
    let Some(rest) = name.strip_prefix(head) else { return false };
    match &pattern[at..=at] {
        "#" => {
            let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            after.len() < rest.len() && matches(tail, after)
        }
        "@" => PARAMETERS.iter().any(|part| rest.strip_prefix(part).is_some_and(|after| matches(tail, after))),
        _ => (0..=rest.len()).any(|at| rest.is_char_boundary(at) && matches(tail, &rest[at..])),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_whole_names() {
        assert!(matches("body.*.weight", "body.12.weight"));
        assert!(matches("*.weight", "a.weight"));
        assert!(!matches("body.*.weight", "body.12.bias"));
        assert!(!matches("body", "body.0"));
        assert!(matches("body.#.rdb#.*", "body.12.rdb1.conv1.weight"));
        assert!(matches("body.#.*.@", "body.12.rdb1.conv1.weight") && !matches("body.#.@", "body.1.weights"));
        assert!(!matches("body.#", "body.") && !matches("body.#", "body.a") && !matches("body.#", "body.1.weight"));
    }
}
