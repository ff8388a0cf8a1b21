//! Two texts and what differs between them, as `diff -u` shows it.

/// Lines shown around what differs.
const CONTEXT: usize = 3;
/// Texts with more pairs of lines to compare are shown as replaced where they differ.
const PAIRS: usize = 4_000_000;

/// A line of both texts, or of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'t> {
    Same(&'t str),
    Old(&'t str),
    New(&'t str),
}

/// The difference; empty if there is none.
pub(super) fn unified(old_name: &str, new_name: &str, old: &str, new: &str) -> String {
    let lines = compare(old, new);
    let changed: Vec<usize> = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| !matches!(line, Line::Same(_)))
        .map(|(at, _)| at)
        .collect();
    let Some(&first) = changed.first() else {
        return String::new();
    };
    let mut text = format!("--- {old_name}\n+++ {new_name}\n");
    let mut start = first.saturating_sub(CONTEXT);
    for (at, &place) in changed.iter().enumerate() {
        let end = (place + 1 + CONTEXT).min(lines.len());
        let next = changed.get(at + 1).copied();
        if next.is_some_and(|next| next.saturating_sub(CONTEXT) <= end) {
            continue;
        }
        text += &hunk(&lines, start, end);
        start = next.unwrap_or(end).saturating_sub(CONTEXT);
    }
    text
}

fn hunk(lines: &[Line<'_>], start: usize, end: usize) -> String {
    let olds = |part: &[Line<'_>]| {
        part.iter()
            .filter(|line| !matches!(line, Line::New(_)))
            .count()
    };
    let news = |part: &[Line<'_>]| {
        part.iter()
            .filter(|line| !matches!(line, Line::Old(_)))
            .count()
    };
    let (before, own) = (&lines[..start], &lines[start..end]);
    // A side without lines is named by the line before it.
    let place = |before: usize, own: usize| format!("{},{own}", before + usize::from(own > 0));
    let mut text = format!(
        "@@ -{} +{} @@\n",
        place(olds(before), olds(own)),
        place(news(before), news(own))
    );
    for line in own {
        let (sign, line) = match line {
            Line::Same(line) => (' ', line),
            Line::Old(line) => ('-', line),
            Line::New(line) => ('+', line),
        };
        text.push(sign);
        text += line;
        text.push('\n');
    }
    text
}

/// The longest common subsequence of lines, by the textbook.
fn compare<'t>(old: &'t str, new: &'t str) -> Vec<Line<'t>> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (&old[head..], &new[head..]);
    let ends = old_rest.iter().rev().zip(new_rest.iter().rev());
    let tail = ends.take_while(|(a, b)| a == b).count();
    let a = &old_rest[..old_rest.len() - tail];
    let b = &new_rest[..new_rest.len() - tail];
    let mut lines: Vec<Line<'t>> = old[..head].iter().map(|line| Line::Same(line)).collect();
    if a.len().saturating_mul(b.len()) > PAIRS {
        lines.extend(a.iter().map(|line| Line::Old(line)));
        lines.extend(b.iter().map(|line| Line::New(line)));
    } else {
        let width = b.len() + 1;
        let mut longest = vec![0u32; (a.len() + 1) * width];
        for i in (0..a.len()).rev() {
            for j in (0..b.len()).rev() {
                longest[i * width + j] = if a[i] == b[j] {
                    longest[(i + 1) * width + j + 1] + 1
                } else {
                    longest[(i + 1) * width + j].max(longest[i * width + j + 1])
                };
            }
        }
        let (mut i, mut j) = (0, 0);
        while i < a.len() || j < b.len() {
            if i < a.len() && j < b.len() && a[i] == b[j] {
                lines.push(Line::Same(a[i]));
                (i, j) = (i + 1, j + 1);
            } else if i < a.len()
                && (j == b.len() || longest[(i + 1) * width + j] >= longest[i * width + j + 1])
            {
                lines.push(Line::Old(a[i]));
                i += 1;
            } else {
                lines.push(Line::New(b[j]));
                j += 1;
            }
        }
    }
    let tail = &old_rest[old_rest.len() - tail..];
    lines.extend(tail.iter().map(|line| Line::Same(line)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_stands_between_what_does_not() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\n";
        let new = "a\nb\nc\nd\nE\nf\ng\nh\ni\nj\nk\nl\n";
        assert_eq!(
            unified("x", "y", old, new),
            "--- x\n+++ y\n@@ -2,10 +2,11 @@\n b\n c\n d\n-e\n+E\n f\n g\n h\n i\n j\n k\n+l\n"
        );
        let far = format!("0\n{}", new.replace("i\nj\nk\nl", "i\nj\nk"));
        assert_eq!(
            unified("x", "y", old, &far),
            "--- x\n+++ y\n@@ -1,8 +1,9 @@\n+0\n a\n b\n c\n d\n-e\n+E\n f\n g\n h\n"
        );
    }

    #[test]
    fn a_new_text_is_all_new() {
        assert_eq!(
            unified("/dev/null", "y", "", "a\nb\n"),
            "--- /dev/null\n+++ y\n@@ -0,0 +1,2 @@\n+a\n+b\n"
        );
        assert_eq!(unified("x", "y", "a\n", "a\n"), "");
    }

    #[test]
    fn patches_apply_to_every_pair_of_small_texts() {
        // Each text is three of four lines, in any order; the hunks give one from the other.
        let words = ["a", "b", "c", ""];
        let text = |number: usize| {
            (0..4)
                .map(|at| words[number >> (2 * at) & 3])
                .filter(|word| !word.is_empty())
                .map(|word| format!("{word}\n"))
                .collect::<String>()
        };
        for one in 0..256 {
            for two in (0..256).step_by(7) {
                let (old, new) = (text(one), text(two));
                let lines = compare(&old, &new);
                let side = |skip: fn(&Line<'_>) -> bool| {
                    lines
                        .iter()
                        .filter(|line| !skip(line))
                        .map(|line| match line {
                            Line::Same(line) | Line::Old(line) | Line::New(line) => {
                                format!("{line}\n")
                            }
                        })
                        .collect::<String>()
                };
                assert_eq!(side(|line| matches!(line, Line::New(_))), old);
                assert_eq!(side(|line| matches!(line, Line::Old(_))), new);
            }
        }
    }
}
