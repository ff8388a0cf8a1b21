//! Variables of filters: how they are named, and which combinations of their values make rules.

use std::collections::BTreeMap;

/// Largest number of an iterator.
const ITERATORS: u32 = 1000;
/// Largest number of combinations of one rule.
const COMBINATIONS: usize = 100_000;

/// Lists of values by name. A single value is a list of one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parameters {
    values: BTreeMap<String, Vec<String>>,
}

impl Parameters {
    /// No parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value to a list. False if libvirt would skip it, because name or value has a character
    /// that it does not take.
    pub fn add(&mut self, name: &str, value: &str) -> bool {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_value = |c: char| is_name(c) || c == '.' || c == ':';
        if name.is_empty()
            || value.is_empty()
            || !name.chars().all(is_name)
            || !value.chars().all(is_value)
        {
            return false;
        }
        self.values
            .entry(name.to_owned())
            .or_default()
            .push(value.to_owned());
        true
    }

    /// Gives a name that has no value one of our own, whatever its characters.
    pub(super) fn stand_in(&mut self, name: &str, value: &str) {
        self.values
            .entry(name.to_owned())
            .or_insert_with(|| vec![value.to_owned()]);
    }

    /// All names with their lists, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        let entries = self.values.iter();
        entries.map(|(name, list)| (name.as_str(), list.as_slice()))
    }

    /// The list of a name.
    pub fn get(&self, name: &str) -> Option<&[String]> {
        self.values.get(name).map(Vec::as_slice)
    }

    /// Names that have a list.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// These, and the others where these have none.
    pub fn over(&self, others: &Self) -> Self {
        let mut values = others.values.clone();
        values.extend(self.values.clone());
        Self { values }
    }
}

/// How a rule names a variable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Access {
    /// The variable.
    pub name: String,
    /// Which values.
    pub index: Index,
}

/// Which values of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Index {
    /// All, by this iterator.
    Iterator(u32),
    /// The one at this place, from 0.
    Element(u32),
}

impl Access {
    /// Reads `NAME`, `NAME[@iterator]` or `NAME[element]`, without the `$`.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, index) = match text.split_once('[') {
            None => (text, Index::Iterator(0)),
            Some((name, rest)) => {
                let inner = rest.strip_suffix(']')?.trim();
                let index = match inner.strip_prefix('@') {
                    Some(number) => Index::Iterator(number.trim().parse().ok()?),
                    None => Index::Element(inner.parse().ok()?),
                };
                (name, index)
            }
        };
        if matches!(index, Index::Iterator(number) if number > ITERATORS) {
            return None;
        }
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(good) {
            return None;
        }
        Some(Self {
            name: name.to_owned(),
            index,
        })
    }

    /// What libvirt calls it when it is missing.
    pub(super) fn missing(&self) -> String {
        match self.index {
            Index::Iterator(_) => self.name.clone(),
            Index::Element(at) => format!("{}[{at}]", self.name),
        }
    }

    pub(super) fn is_there(&self, parameters: &Parameters) -> bool {
        match (parameters.get(&self.name), self.index) {
            (Some(_), Index::Iterator(_)) => true,
            (Some(list), Index::Element(at)) => (at as usize) < list.len(),
            (None, _) => false,
        }
    }
}

/// Values for each access of a rule, in the order of the accesses.
pub(super) type Combination = Vec<String>;

/// All combinations of values. Accesses with the same iterator advance together; the iterator met first
/// advances fastest. All accesses must be there.
pub(super) fn combinations(
    accesses: &[Access],
    parameters: &Parameters,
) -> Result<Vec<Combination>, String> {
    // Iterators in the order they are met, with the accesses that each moves.
    let mut iterators: Vec<(u32, Vec<usize>)> = Vec::new();
    for (at, access) in accesses.iter().enumerate() {
        if let Index::Iterator(number) = access.index {
            match iterators.iter_mut().find(|(known, _)| *known == number) {
                Some((_, moved)) => moved.push(at),
                None => iterators.push((number, vec![at])),
            }
        }
    }
    let list = |at: usize| parameters.get(&accesses[at].name).unwrap_or_default();
    // For each iterator the places that bring new tuples.
    let mut places: Vec<Vec<usize>> = Vec::new();
    let mut count = 1usize;
    for (number, moved) in &iterators {
        let length = list(moved[0]).len();
        if let Some(&odd) = moved.iter().find(|&&at| list(at).len() != length) {
            return Err(format!(
                "`{}` has {length} values and `{}` has {}; in one rule the lists of an iterator \
                 (here @{number}) must be equally long",
                accesses[moved[0]].name,
                accesses[odd].name,
                list(odd).len()
            ));
        }
        let tuple =
            |place: usize| -> Vec<&String> { moved.iter().map(|&at| &list(at)[place]).collect() };
        let mut seen = std::collections::HashSet::new();
        let new: Vec<usize> = (0..length)
            .filter(|&place| seen.insert(tuple(place)))
            .collect();
        count = count.saturating_mul(new.len());
        places.push(new);
    }
    if count > COMBINATIONS {
        return Err(format!(
            "this rule becomes {count} rules; the limit is {COMBINATIONS}"
        ));
    }
    let mut all = Vec::with_capacity(count);
    for number in 0..count {
        let mut values: Vec<String> = accesses
            .iter()
            .map(|access| match access.index {
                Index::Element(at) => parameters
                    .get(&access.name)
                    .and_then(|list| list.get(at as usize))
                    .cloned()
                    .unwrap_or_default(),
                Index::Iterator(_) => String::new(),
            })
            .collect();
        let mut rest = number;
        for ((_, moved), new) in iterators.iter().zip(&places) {
            let place = new[rest % new.len()];
            rest /= new.len();
            for &at in moved {
                values[at] = list(at)[place].clone();
            }
        }
        all.push(values);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(list: &[(&str, &str)]) -> Parameters {
        let mut parameters = Parameters::new();
        for (name, value) in list {
            assert!(parameters.add(name, value));
        }
        parameters
    }

    fn made(accesses: &[&str], list: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let accesses: Vec<Access> = accesses.iter().map(|a| Access::parse(a).unwrap()).collect();
        let all = combinations(&accesses, &parameters(list))?;
        Ok(all.into_iter().map(|values| values.join(" ")).collect())
    }

    #[test]
    fn accesses_are_read_as_libvirt_does() {
        assert_eq!(Access::parse("IP").unwrap().index, Index::Iterator(0));
        assert_eq!(Access::parse("IP[ @3 ]").unwrap().index, Index::Iterator(3));
        assert_eq!(Access::parse("IP[2]").unwrap().index, Index::Element(2));
        for bad in ["", "I-P", "IP[", "IP[@]", "IP[@1001]", "IP[x]", "IP[1]x"] {
            assert_eq!(Access::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn one_iterator_walks_in_parallel_two_make_a_product() {
        let lists = [("A", "1"), ("A", "2"), ("B", "x"), ("B", "y")];
        assert_eq!(made(&["A", "B"], &lists).unwrap(), ["1 x", "2 y"]);
        assert_eq!(
            made(&["A[@1]", "B[@2]"], &lists).unwrap(),
            ["1 x", "2 x", "1 y", "2 y"]
        );
        assert_eq!(made(&["A[1]", "B"], &lists).unwrap(), ["2 x", "2 y"]);
        assert_eq!(made(&[], &lists).unwrap(), [""]);
    }

    #[test]
    fn repeated_values_make_one_rule() {
        let lists = [("A", "1"), ("A", "2"), ("A", "1")];
        assert_eq!(made(&["A"], &lists).unwrap(), ["1", "2"]);
    }

    #[test]
    fn lists_of_one_iterator_must_be_equally_long() {
        let lists = [("A", "1"), ("A", "2"), ("B", "x")];
        let error = made(&["A", "B"], &lists).unwrap_err();
        assert!(error.contains("`A` has 2 values and `B` has 1"), "{error}");
    }

    #[test]
    fn what_libvirt_skips_is_not_taken() {
        let mut parameters = Parameters::new();
        assert!(!parameters.add("IP", "10.0.0.0/24"));
        assert!(!parameters.add("I-P", "10.0.0.1"));
        assert!(!parameters.add("IP", ""));
        assert_eq!(parameters.get("IP"), None);
    }
}
