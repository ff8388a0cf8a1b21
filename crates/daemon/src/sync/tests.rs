use std::net::IpAddr;

use super::{Request, Role, resolve};

fn request(role: Role) -> Request {
    Request {
        role,
        interface: "vc".to_owned(),
        sync_id: 42,
        max_length: None,
        group: None,
        port: None,
        ttl: None,
    }
}

#[test]
fn defaults_are_the_kernels() {
    let master = resolve(&request(Role::Master), 9000);
    let group: IpAddr = "224.0.0.81".parse().unwrap();
    assert_eq!((master.group, master.port, master.ttl), (group, 8848, 1));
    assert_eq!(master.max_length, 1472, "whatever the interface takes");
    let length = |role, mtu, max_length, group: Option<&str>| {
        let request = Request {
            max_length,
            group: group.map(|text| text.parse().unwrap()),
            ..request(role)
        };
        resolve(&request, mtu).max_length
    };
    let six = Some("ff02::81");
    assert_eq!(length(Role::Master, 1500, None, six), 1452);
    assert_eq!(length(Role::Backup, 9000, None, None), 8972);
    assert_eq!(length(Role::Backup, 1400, None, None), 1472);
    assert_eq!(length(Role::Backup, 65_536, None, None), 65_507);
    assert_eq!(length(Role::Backup, 1500, Some(60), None), 1024);
    assert_eq!(length(Role::Master, 1500, Some(60), None), 60);
    assert_eq!(length(Role::Master, 1500, Some(65_535), six), 65_487);
}

#[test]
fn a_request_reads_as_the_api_documents_it() {
    let text = r#"{"role": "backup", "interface": "eth1", "sync_id": 42}"#;
    let read: Request = serde_json::from_str(text).unwrap();
    let expected = Request {
        interface: "eth1".to_owned(),
        ..request(Role::Backup)
    };
    assert_eq!(read, expected);
    let unknown = r#"{"role": "backup", "interface": "eth1", "syncid": 42}"#;
    assert!(serde_json::from_str::<Request>(unknown).is_err());
}
