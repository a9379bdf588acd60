//! Patterns for names of parameters, as shells have them: `*` stands for any text, `?` for any one character.

/// Whether `name` as a whole is what `pattern` describes.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Behind the last star, and how much of the name it stands for ends where.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                p += 1;
                star = Some((p, n));
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((behind, end)) => {
                    (p, n) = (behind, end + 1);
                    star = Some((behind, end + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name) in [
            ("*", ""),
            ("*", "0.weight"),
            ("wide.*", "wide.weight"),
            ("*.bias", "deep.3.bias"),
            ("?.weight", "7.weight"),
            ("*e*p*", "deep.3"),
            ("a*b*c", "aXbbXc"),
            ("é?*", "éa"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("", "x"),
            ("wide", "wide.weight"),
            ("?.weight", "17.weight"),
            ("a*b", "ab.c"),
            ("*.bias", "bias"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
