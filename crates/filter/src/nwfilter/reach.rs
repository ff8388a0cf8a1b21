//! Which filters a port's filter is made of, by way of which others, and with which parameters.

use super::binding::Binding;
use super::document::{Entry, Filter, Library, Reference};
use super::variable::Parameters;

/// How many filters are listed.
const LIMIT: usize = 10_000;

/// A filter at a port.
#[derive(Debug, Clone)]
pub struct Reached<'a> {
    /// The filter.
    pub filter: &'a Filter,
    /// Filters that refer to it, the outermost first.
    pub by_way_of: Vec<&'a str>,
    /// Values of its variables.
    pub parameters: Parameters,
}

impl Reached<'_> {
    /// The variables of a rule, by its number, with their values.
    pub fn variables(&self, number: usize) -> Vec<(String, &[String])> {
        let rule = self.filter.entries.iter().find_map(|entry| match entry {
            Entry::Rule(rule) if rule.number == number => Some(rule),
            _ => None,
        });
        let accesses = rule
            .and_then(|rule| rule.is_about.as_ref())
            .map(|about| about.accesses())
            .unwrap_or_default();
        let mut variables = Vec::new();
        for access in accesses {
            if let Some(values) = self.parameters.get(&access.name) {
                variables.push((access.name.clone(), values));
            }
        }
        variables
    }
}

/// All filters that a port's filter refers to, itself first, each as often as it is referred to. What is
/// missing or refers to itself ends there.
pub fn reach<'a>(library: &'a Library, binding: &Binding) -> Vec<Reached<'a>> {
    let mut own = Parameters::new();
    own.add("MAC", &binding.mac);
    let parameters = binding.filter.parameters.over(&own);
    let mut reached = Vec::new();
    follow(library, &binding.filter, &parameters, &[], &mut reached);
    reached
}

fn follow<'a>(
    library: &'a Library,
    reference: &Reference,
    parameters: &Parameters,
    path: &[&'a str],
    reached: &mut Vec<Reached<'a>>,
) {
    let Some(filter) = library.get(&reference.filter) else {
        return;
    };
    if path.contains(&filter.name.as_str()) || reached.len() >= LIMIT {
        return;
    }
    reached.push(Reached {
        filter,
        by_way_of: path.to_vec(),
        parameters: parameters.clone(),
    });
    let path = [path, &[filter.name.as_str()]].concat();
    for entry in &filter.entries {
        if let Entry::Reference(inner) = entry {
            let parameters = parameters.over(&inner.parameters);
            follow(library, inner, &parameters, &path, reached);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nwfilter::read_bindings;

    #[test]
    fn filters_are_reached_with_their_parameters() {
        let mut library = Library::new();
        for text in [
            "<filter name='instance'><filterref filter='base'>\
             <parameter name='IP' value='10.0.0.1'/></filterref></filter>",
            "<filter name='base'><filterref filter='pin'/><filterref filter='base'/></filter>",
            "<filter name='pin' chain='ipv4-ip'><rule action='drop' direction='in'/>\
             <rule action='return' direction='out'><ip srcipaddr='$IP'/></rule></filter>",
        ] {
            library.add("f", text).unwrap();
        }
        let binding = "<filterbinding><mac address='2:0:0:0:0:1'/>\
                       <filterref filter='instance'/></filterbinding>";
        let binding = &read_bindings("f", binding).unwrap()[0];
        let reached = reach(&library, binding);
        let names: Vec<_> = reached.iter().map(|one| &one.filter.name[..]).collect();
        assert_eq!(names, ["instance", "base", "pin"]);
        assert_eq!(reached[2].by_way_of, ["instance", "base"]);
        let variables = reached[2].variables(1);
        assert_eq!(variables, [("IP".to_owned(), &["10.0.0.1".to_owned()][..])]);
        assert!(reached[2].variables(0).is_empty());
    }
}
