//! File name patterns as Hadoop has them (`org.apache.hadoop.fs.GlobPattern`): `*`, `?`, `[a-c]`, `[^a]`,
//! `{a,b}` and `\` before a character that is meant literally. A pattern never matches across a slash.

/// Alternatives one pattern may expand to; more is a mistake or an attack.
const MAX_ALTERNATIVES: usize = 1_024;

/// Whether the text has anything that makes it more than a name.
pub(crate) fn has_wildcard(text: &str) -> bool {
    text.contains(['*', '?', '[', '{', '\\'])
}

/// A compiled pattern of one name.
#[derive(Debug)]
pub(crate) struct Pattern(Vec<Vec<Part>>);

#[derive(Debug, PartialEq)]
enum Part {
    Char(char),
    One,
    Any,
    Set { inverted: bool, ranges: Vec<(char, char)> },
}

impl Pattern {
    /// Reads a pattern of one path component.
    ///
    /// # Errors
    /// Says which bracket or brace is not closed.
    pub(crate) fn new(text: &str) -> Result<Pattern, String> {
        let mut alternatives = Vec::new();
        for plain in expand_braces(text)? {
            alternatives.push(parse(&plain)?);
        }
        Ok(Pattern(alternatives))
    }

    /// Whether `name` as a whole matches.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        self.0.iter().any(|parts| matches(parts, &name))
    }
}

/// Splits a relative pattern into components at slashes that stand outside braces.
pub(crate) fn components(pattern: &str) -> Vec<String> {
    let (mut parts, mut current, mut depth, mut escaped) = (Vec::new(), String::new(), 0usize, false);
    for c in pattern.chars() {
        match c {
            '/' if depth == 0 => parts.push(std::mem::take(&mut current)),
            _ => {
                match c {
                    _ if escaped => {}
                    '{' => depth += 1,
                    '}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                escaped = c == '\\' && !escaped;
                current.push(c);
            }
        }
    }
    parts.push(current);
    parts.retain(|part| !part.is_empty());
    parts
}

/// `{a,b}` becomes two patterns; braces may nest.
fn expand_braces(text: &str) -> Result<Vec<String>, String> {
    let mut done = Vec::new();
    let mut open = vec![text.to_string()];
    while let Some(text) = open.pop() {
        let Some((start, end, commas)) = find_braces(&text)? else {
            done.push(text);
            continue;
        };
        let mut from = start + 1;
        for comma in commas.into_iter().chain([end]) {
            open.push(format!("{}{}{}", &text[..start], &text[from..comma], &text[end + 1..]));
            from = comma + 1;
        }
        if open.len() + done.len() > MAX_ALTERNATIVES {
            return Err(format!("{text}: the braces stand for more than {MAX_ALTERNATIVES} patterns"));
        }
    }
    Ok(done)
}

/// Place of the first outer `{`, its `}`, and the commas between them.
fn find_braces(text: &str) -> Result<Option<(usize, usize, Vec<usize>)>, String> {
    let (mut start, mut depth, mut commas, mut escaped) = (0, 0usize, Vec::new(), false);
    for (at, c) in text.char_indices() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match c {
            '\\' => escaped = true,
            '{' => {
                if depth == 0 {
                    start = at;
                }
                depth += 1;
            }
            '}' if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some((start, at, commas)));
                }
            }
            ',' if depth == 1 => commas.push(at),
            _ => {}
        }
    }
    if depth > 0 { Err(format!("{text}: {{ is not closed")) } else { Ok(None) }
}

fn parse(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' if parts.last() != Some(&Part::Any) => parts.push(Part::Any),
            '*' => {}
            '?' => parts.push(Part::One),
            '\\' => parts.push(Part::Char(chars.next().ok_or_else(|| format!("{text}: \\ at the end"))?)),
            '[' => {
                let inverted = chars.next_if(|c| *c == '^' || *c == '!').is_some();
                let mut ranges = Vec::new();
                loop {
                    let low = chars.next().ok_or_else(|| format!("{text}: [ is not closed"))?;
                    if low == ']' && !ranges.is_empty() {
                        break;
                    }
                    let mut high = low;
                    if chars.peek() == Some(&'-') && chars.clone().nth(1).is_some_and(|c| c != ']') {
                        chars.next();
                        high = chars.next().unwrap_or(low);
                    }
                    ranges.push((low, high));
                }
                parts.push(Part::Set { inverted, ranges });
            }
            c => parts.push(Part::Char(c)),
        }
    }
    Ok(parts)
}

/// Greedy match that backtracks to the last `*` only: linear in practice, never exponential.
fn matches(parts: &[Part], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let fits = match parts.get(p) {
            Some(Part::Any) => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some(Part::One) => true,
            Some(Part::Char(c)) => *c == name[n],
            Some(Part::Set { inverted, ranges }) => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&name[n])) != *inverted
            }
            None => false,
        };
        if fits {
            (p, n) = (p + 1, n + 1);
        } else if let Some((star_p, star_n)) = star {
            star = Some((star_p, star_n + 1));
            (p, n) = (star_p + 1, star_n + 1);
        } else {
            return false;
        }
    }
    parts[p..].iter().all(|part| *part == Part::Any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_hadoop() {
        for (pattern, yes, no) in [
            ("*.csv", &["a.csv", ".csv"][..], &["a.csv.gz", "csv"][..]),
            ("part-?????", &["part-00000"], &["part-0000", "part-000000"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "x"]),
            ("[^a-c]x", &["dx"], &["ax"]),
            (
                "{train,t10k}-images*",
                &["train-images-idx3-ubyte", "t10k-images"],
                &["images", "train-labels"],
            ),
            ("a{b,c{d,e}}f", &["abf", "acdf", "acef"], &["acf", "af"]),
            ("\\*x", &["*x"], &["ax"]),
            ("a*b*c", &["abc", "axxbyyc", "abbcc"], &["ab", "acb"]),
            ("**", &["", "x"], &[]),
        ] {
            let compiled = Pattern::new(pattern).unwrap();
            for name in yes {
                assert!(compiled.matches(name), "{pattern} should match {name}");
            }
            for name in no {
                assert!(!compiled.matches(name), "{pattern} should not match {name}");
            }
        }
    }

    #[test]
    fn mistakes_are_named_and_blow_ups_refused() {
        assert!(Pattern::new("a[b").unwrap_err().contains("[ is not closed"));
        assert!(Pattern::new("a{b,c").unwrap_err().contains("{ is not closed"));
        assert!(Pattern::new(&"{a,b}".repeat(20)).unwrap_err().contains("1024"));
        let hard = Pattern::new(&"a*".repeat(30)).unwrap();
        assert!(!hard.matches(&"a".repeat(29)));
    }

    #[test]
    fn components_split_outside_braces() {
        assert_eq!(components("/a/{b/c,d}/*.csv"), ["a", "{b/c,d}", "*.csv"]);
    }
}
