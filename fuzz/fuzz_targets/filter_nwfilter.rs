//! Any text is read as a filter or a binding, or refused, and compiled, without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_filter::diagnostic::Place;
use pointsman_filter::nwfilter::{
    Backend, Binding, Library, Parameters, Reference, compile, read_bindings,
};

fuzz_target!(|text: &str| {
    let _ = read_bindings("f", text);
    let mut library = Library::new();
    let Ok(filter) = library.add("f", text) else {
        return;
    };
    let mut parameters = Parameters::new();
    for (name, value) in [
        ("IP", "10.0.0.1"),
        ("IP", "10.0.0.2"),
        ("A", "80"),
        ("B", "x"),
    ] {
        parameters.add(name, value);
    }
    let binding = Binding {
        port: None,
        mac: "02:00:00:00:00:01".into(),
        filter: Reference {
            filter: filter.name.clone(),
            parameters,
            place: Place::new("f", 1, 1),
        },
        owner: None,
        warnings: Vec::new(),
    };
    for backend in [Backend::Ebiptables, Backend::Nftables] {
        let _ = compile(&library, &binding, "vnet0", backend);
    }
});
