//! Small changes to XML texts that leave everything else as it was written.

use std::ops::Range;

use roxmltree::{Document, Node};

use crate::diagnostic::Diagnostic;
use crate::nwfilter::Xml;

/// A text and where its elements are, to be changed.
pub(super) struct Editor<'t> {
    xml: Xml<'t>,
    text: &'t str,
    /// Places in the text with what is put there instead, in any order.
    patches: Vec<(Range<usize>, String)>,
}

impl<'t> Editor<'t> {
    pub(super) fn new(file: &'t str, text: &'t str) -> Result<Self, Diagnostic> {
        Ok(Self {
            xml: Xml::parse(file, text)?,
            text,
            patches: Vec::new(),
        })
    }

    /// The text with everything changed.
    pub(super) fn finish(mut self) -> String {
        self.patches.sort_by_key(|(range, _)| range.start);
        let mut text = String::with_capacity(self.text.len() + 256);
        let mut at = 0;
        for (range, new) in &self.patches {
            text += &self.text[at..range.start];
            text += new;
            at = range.end;
        }
        text + &self.text[at..]
    }

    /// The `<filterref>` of a binding, or of the domain's filtered interface with this number.
    fn port_reference(&self, number: usize) -> Option<Node<'_, 't>> {
        reference_of(filtered(&self.xml.document, number)?)
    }

    /// The `<filterref>` with this number among a filter's children.
    fn reference(&self, number: usize) -> Option<Node<'_, 't>> {
        let root = self.xml.document.root_element();
        root.children()
            .filter(|child| child.has_tag_name("filterref"))
            .nth(number)
    }

    /// Has a port refer to another filter.
    pub(super) fn refer(&mut self, number: usize, filter: &str) {
        let range = self
            .port_reference(number)
            .and_then(|node| node.attribute_node("filter"))
            .map(|attribute| attribute.range_value());
        if let Some(range) = range {
            self.patches.push((range, filter.to_owned()));
        }
    }

    /// Adds parameters to a port's `<filterref>`; once for each.
    pub(super) fn add_to_port(&mut self, number: usize, new: &[(&str, &[String])]) {
        let found = self.port_reference(number).map(|node| node.range());
        self.add_parameters(found, new);
    }

    /// Adds parameters to a `<filterref>` of a filter; once for each.
    pub(super) fn add_to_reference(&mut self, number: usize, new: &[(&str, &[String])]) {
        let found = self.reference(number).map(|node| node.range());
        self.add_parameters(found, new);
    }

    fn add_parameters(&mut self, found: Option<Range<usize>>, new: &[(&str, &[String])]) {
        let node = found.and_then(|range| {
            let mut all = self.xml.document.descendants();
            all.find(|node| node.range() == range)
        });
        let Some(node) = node else { return };
        let parameters = || {
            node.children()
                .filter(|child| child.has_tag_name("parameter"))
        };
        let lines = |indent: &str, name: &str, values: &[String]| -> String {
            let line = |value| format!("{indent}<parameter name='{name}' value='{value}'/>");
            values.iter().map(line).collect()
        };
        let mut patches = Vec::new();
        // Values come behind those of their name, new names behind everything.
        let (mut last, mut others) = (String::new(), Vec::new());
        for (name, values) in new {
            let after = parameters().rfind(|child| child.attribute("name") == Some(name));
            match after {
                Some(after) => {
                    let end = after.range().end;
                    patches.push((end..end, lines(&self.indent(after), name, values)));
                }
                None => others.push((name, values)),
            }
        }
        if let Some(after) = parameters().next_back() {
            for (name, values) in others {
                last += &lines(&self.indent(after), name, values);
            }
            let end = after.range().end;
            patches.push((end..end, last));
        } else if !others.is_empty() {
            let outer = self.indent(node);
            let indent = format!("{outer}  ");
            for (name, values) in others {
                last += &lines(&indent, name, values);
            }
            let range = node.range();
            let own = &self.text[range.clone()];
            patches.push(if own.ends_with("/>") {
                // From empty to one with children.
                let end = own.trim_end_matches("/>").trim_end().len();
                (
                    range.start + end..range.end,
                    format!(">{last}{outer}</filterref>"),
                )
            } else {
                let end = own.rfind("</").unwrap_or(own.len());
                let body = own[..end].trim_end().len();
                (
                    range.start + body..range.start + end,
                    format!("{last}{outer}"),
                )
            });
        }
        self.patches.extend(patches);
    }

    /// Puts text before a filter's first rule or reference.
    pub(super) fn add_to_filter(&mut self, new: &[String]) {
        let root = self.xml.document.root_element();
        let first = root
            .children()
            .find(|child| child.has_tag_name("rule") || child.has_tag_name("filterref"));
        let patch = match first {
            Some(node) => {
                let indent = self.indent(node);
                let new: String = new.iter().map(|part| shift(part, &indent)).collect();
                let at = node.range().start;
                (at..at, new.trim_start().to_owned() + &indent)
            }
            None => {
                let new: String = new.iter().map(|part| shift(part, "\n  ")).collect();
                let range = root.range();
                let own = &self.text[range.clone()];
                if own.ends_with("/>") {
                    let end = own.trim_end_matches("/>").trim_end().len();
                    (range.start + end..range.end, format!(">{new}\n</filter>"))
                } else {
                    let end = range.start + own.rfind("</").unwrap_or(own.len());
                    (end..end, format!("{}\n", new.trim_start_matches('\n')))
                }
            }
        };
        self.patches.push(patch);
    }

    /// The line break and blanks before an element.
    fn indent(&self, node: Node<'_, '_>) -> String {
        let before = &self.text[..node.range().start];
        let start = before.trim_end_matches([' ', '\t']).len();
        if before[..start].ends_with('\n') {
            format!("\n{}", &before[start..])
        } else {
            // Several elements on a line stay on a line.
            String::new()
        }
    }
}

/// Text of several lines, each behind a line break and blanks.
fn shift(text: &str, indent: &str) -> String {
    text.lines().map(|line| format!("{indent}{line}")).collect()
}

/// The element that has the filter: the binding, or the domain's filtered interface with this number.
fn filtered<'a, 't>(document: &'a Document<'t>, number: usize) -> Option<Node<'a, 't>> {
    let root = document.root_element();
    if root.has_tag_name("filterbinding") {
        return Some(root).filter(|_| number == 0);
    }
    let devices = root
        .children()
        .find(|child| child.has_tag_name("devices"))?;
    devices
        .children()
        .filter(|node| node.has_tag_name("interface") && reference_of(*node).is_some())
        .nth(number)
}

fn reference_of<'a, 't>(node: Node<'a, 't>) -> Option<Node<'a, 't>> {
    node.children()
        .find(|child| child.has_tag_name("filterref"))
}

/// The text of the element that has the filter, moved to the left margin.
pub(super) fn port_text(file: &str, text: &str, number: usize) -> Result<String, Diagnostic> {
    let xml = Xml::parse(file, text)?;
    let Some(node) = filtered(&xml.document, number) else {
        return Ok(String::new());
    };
    let range = node.range();
    let before = &text[..range.start];
    let margin = before.len() - before.trim_end_matches([' ', '\t']).len();
    let mut lines = text[range].lines();
    let mut own = lines.next().unwrap_or_default().to_owned() + "\n";
    for line in lines {
        let blanks = line.len() - line.trim_start_matches([' ', '\t']).len();
        own += &line[blanks.min(margin)..];
        own.push('\n');
    }
    Ok(own)
}

/// A filter's uuid, if its text says it.
pub(super) fn uuid(text: &str) -> Option<String> {
    let document = Document::parse(text).ok()?;
    let node = document
        .root_element()
        .children()
        .find(|child| child.has_tag_name("uuid"))?;
    node.text().map(|text| text.trim().to_owned())
}

/// Whether the text is that of a domain.
pub(super) fn is_domain(text: &str) -> bool {
    Document::parse(text).is_ok_and(|document| document.root_element().has_tag_name("domain"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nwfilter::{Library, read_bindings};

    fn values(list: &[&str]) -> Vec<String> {
        list.iter().map(|&value| value.to_owned()).collect()
    }

    const DOMAIN: &str = "<domain>
  <devices>
    <interface type='network'><mac address='52:54:00:00:00:01'/></interface>
    <interface type='bridge'>
      <mac address='52:54:00:00:00:02'/>
      <filterref filter='clean-traffic'>
        <parameter name='IP' value='10.0.0.1'/>
        <parameter name='GATEWAY_MAC' value='02:00:00:00:00:01'/>
      </filterref>
    </interface>
  </devices>
</domain>
";

    #[test]
    fn a_value_stands_behind_those_of_its_name() {
        let mut editor = Editor::new("f", DOMAIN).unwrap();
        editor.add_to_port(
            0,
            &[
                ("MAC", &values(&["02:00:00:00:00:01"])),
                ("IP", &values(&["10.0.0.2", "10.0.0.3"])),
            ],
        );
        editor.refer(0, "mine");
        assert_eq!(
            port_text("f", &editor.finish(), 0).unwrap(),
            "<interface type='bridge'>
  <mac address='52:54:00:00:00:02'/>
  <filterref filter='mine'>
    <parameter name='IP' value='10.0.0.1'/>
    <parameter name='IP' value='10.0.0.2'/>
    <parameter name='IP' value='10.0.0.3'/>
    <parameter name='GATEWAY_MAC' value='02:00:00:00:00:01'/>
    <parameter name='MAC' value='02:00:00:00:00:01'/>
  </filterref>
</interface>
"
        );
    }

    #[test]
    fn an_empty_reference_gets_children() {
        for (text, expected) in [
            (
                "<filterbinding>\n  <filterref filter='x'/>\n</filterbinding>",
                "<filterbinding>\n  <filterref filter='x'>\n    <parameter name='IP' \
                 value='10.0.0.2'/>\n    <parameter name='MAC' value='x'/>\n  </filterref>\n</filterbinding>",
            ),
            (
                "<filterbinding>\n  <filterref filter='x'>\n  </filterref>\n</filterbinding>",
                "<filterbinding>\n  <filterref filter='x'>\n    <parameter name='IP' \
                 value='10.0.0.2'/>\n    <parameter name='MAC' value='x'/>\n  </filterref>\n</filterbinding>",
            ),
        ] {
            let mut editor = Editor::new("f", text).unwrap();
            editor.add_to_port(
                0,
                &[("IP", &values(&["10.0.0.2"])), ("MAC", &values(&["x"]))],
            );
            assert_eq!(editor.finish(), expected);
        }
    }

    #[test]
    fn odd_texts_are_read_as_they_were_with_what_is_new() {
        for text in [
            "\u{feff}<filterbinding>\r\n\t<mac address='02:00:00:00:00:01'/>\r\n\t<filterref \
             filter='a&gt;b' />\r\n</filterbinding >",
            "<filterbinding><mac address='02:00:00:00:00:01'/><filterref\nfilter=\"a&#62;b\"\n><!-- \
             </filterref> --></filterref\n></filterbinding>",
            "<filterbinding><mac address='02:00:00:00:00:01'/><filterref filter='a>b'><parameter \
             name='MAC' value='x'></parameter><!-- /> --></filterref></filterbinding>",
        ] {
            let before = read_bindings("f", text).unwrap().remove(0);
            assert_eq!(before.filter.filter, "a>b");
            let mut editor = Editor::new("f", text).unwrap();
            editor.add_to_port(0, &[("IP", &values(&["10.0.0.2"]))]);
            editor.refer(0, "c");
            let new = editor.finish();
            let after = read_bindings("f", &new).unwrap().remove(0);
            assert_eq!(after.filter.filter, "c");
            assert_eq!(after.filter.parameters.get("IP").unwrap(), ["10.0.0.2"]);
            assert_eq!(
                after.filter.parameters.get("MAC"),
                before.filter.parameters.get("MAC")
            );
        }
        let text = "<filter name='x'><!-- none --></filter>";
        for text in [
            text,
            "<filter name='x' />",
            "<filter name='x'><uuid>u</uuid></filter>",
        ] {
            let mut editor = Editor::new("f", text).unwrap();
            editor.add_to_filter(&values(&["<rule action='drop' direction='in'/>"]));
            let mut library = Library::new();
            let filter = library.add("f", &editor.finish()).unwrap();
            assert_eq!(filter.entries.len(), 1);
        }
    }

    #[test]
    fn a_filter_gets_rules_and_values_and_keeps_its_comments() {
        let text = "<filter name='nova-instance-1'>
  <!-- by nova -->
  <uuid>c2d8</uuid>
  <filterref filter='nova-base'>
    <parameter name='IP' value='10.0.0.1'/>
  </filterref>
</filter>
";
        let mut editor = Editor::new("f", text).unwrap();
        editor.add_to_filter(&values(&["<rule>\n  <ip/>\n</rule>"]));
        editor.add_to_reference(0, &[("IP", &values(&["10.0.0.2"]))]);
        assert_eq!(
            editor.finish(),
            "<filter name='nova-instance-1'>
  <!-- by nova -->
  <uuid>c2d8</uuid>
  <rule>
    <ip/>
  </rule>
  <filterref filter='nova-base'>
    <parameter name='IP' value='10.0.0.1'/>
    <parameter name='IP' value='10.0.0.2'/>
  </filterref>
</filter>
"
        );
        assert_eq!(uuid(text).as_deref(), Some("c2d8"));
    }
}
