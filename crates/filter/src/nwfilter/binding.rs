//! Readers of `<filterbinding>` and of the interfaces of `<domain>`: which filter is at which port.

use super::Xml;
use super::document::{Reference, read_reference};
use crate::address;
use crate::diagnostic::Diagnostic;

/// A port with a filter.
#[derive(Debug, Clone)]
pub struct Binding {
    /// The port's name; nothing if the guest does not run.
    pub port: Option<String>,
    /// The guest's link-layer address, `02:00:...`.
    pub mac: String,
    /// The filter and its parameters.
    pub filter: Reference,
    /// The guest's name.
    pub owner: Option<String>,
    /// What libvirt takes without a word and people should know.
    pub warnings: Vec<Diagnostic>,
}

/// Reads a binding (`virsh nwfilter-binding-dumpxml`), or a domain (`virsh dumpxml`), which has one
/// for each interface with a `<filterref>`.
pub fn read_bindings(file: &str, text: &str) -> Result<Vec<Binding>, Diagnostic> {
    let xml = Xml::parse(file, text)?;
    let root = xml.document.root_element();
    match root.tag_name().name() {
        "filterbinding" => {
            let owner = child(root, "owner")
                .and_then(|owner| child(owner, "name"))
                .and_then(|name| name.text());
            read(&xml, root, "portdev", "name", owner)?
                .map(|binding| vec![binding])
                .ok_or_else(|| xml.place(root).error("<filterbinding> needs <filterref>"))
        }
        "domain" => {
            let owner = child(root, "name").and_then(|name| name.text());
            let devices = child(root, "devices");
            let interfaces = devices
                .into_iter()
                .flat_map(|devices| devices.children())
                .filter(|node| node.has_tag_name("interface"));
            let mut bindings = Vec::new();
            for interface in interfaces {
                bindings.extend(read(&xml, interface, "target", "dev", owner)?);
            }
            Ok(bindings)
        }
        other => Err(xml.place(root).error(format!(
            "expected <domain> or <filterbinding>, not <{other}>"
        ))),
    }
}

fn read(
    xml: &Xml<'_>,
    node: roxmltree::Node<'_, '_>,
    port: &str,
    port_attribute: &str,
    owner: Option<&str>,
) -> Result<Option<Binding>, Diagnostic> {
    let Some(reference) = child(node, "filterref") else {
        return Ok(None);
    };
    let Some(mac) = child(node, "mac") else {
        return Err(xml
            .place(node)
            .error("there is no <mac address='...'/> here"));
    };
    let text = xml.required(mac, "address")?;
    let Some(address) = address::mac(text) else {
        return Err(xml
            .place(mac)
            .error(format!("`{text}` is not a link-layer address")));
    };
    let mut warnings = Vec::new();
    Ok(Some(Binding {
        port: child(node, port)
            .and_then(|node| node.attribute(port_attribute))
            .map(str::to_owned),
        mac: address::mac_text(address),
        filter: read_reference(xml, reference, &mut warnings)?,
        owner: owner.map(str::to_owned),
        warnings,
    }))
}

fn child<'a, 'i>(node: roxmltree::Node<'a, 'i>, name: &str) -> Option<roxmltree::Node<'a, 'i>> {
    node.children().find(|child| child.has_tag_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_has_a_binding_for_each_filtered_interface() {
        let text = "<domain type='kvm'><name>director</name><devices>\
                    <interface type='bridge'><mac address='52:54:0:0:0:1'/></interface>\
                    <interface type='bridge'><mac address='52:54:0:0:0:2'/><target dev='vnet3'/>\
                    <filterref filter='clean-traffic'><parameter name='IP' value='10.0.0.1'/>\
                    <parameter name='IP' value='10.0.0.2'/></filterref></interface>\
                    </devices></domain>";
        let bindings = read_bindings("f", text).unwrap();
        let [binding] = &bindings[..] else {
            panic!("{bindings:?}");
        };
        assert_eq!(binding.port.as_deref(), Some("vnet3"));
        assert_eq!(binding.mac, "52:54:00:00:00:02");
        assert_eq!(binding.owner.as_deref(), Some("director"));
        assert_eq!(binding.filter.filter, "clean-traffic");
        assert_eq!(binding.filter.parameters.get("IP").unwrap().len(), 2);
    }

    #[test]
    fn a_binding_names_its_port() {
        let text = "<filterbinding><owner><name>g</name></owner><portdev name='nwfg0'/>\
                    <mac address='02:00:73:b6:53:c8'/><filterref filter='x'/></filterbinding>";
        let binding = &read_bindings("f", text).unwrap()[0];
        assert_eq!(binding.port.as_deref(), Some("nwfg0"));
        assert_eq!(binding.owner.as_deref(), Some("g"));
    }

    #[test]
    fn what_is_missing_is_said_with_its_place() {
        for (text, error) in [
            (
                "<filter/>",
                "f:1:1: expected <domain> or <filterbinding>, not <filter>",
            ),
            (
                "<filterbinding/>",
                "f:1:1: <filterbinding> needs <filterref>",
            ),
            (
                "<filterbinding><filterref filter='x'/></filterbinding>",
                "f:1:1: there is no <mac address='...'/> here",
            ),
            (
                "<filterbinding><mac address='x'/><filterref filter='x'/></filterbinding>",
                "f:1:16: `x` is not a link-layer address",
            ),
        ] {
            assert_eq!(read_bindings("f", text).unwrap_err().to_string(), error);
        }
    }
}
