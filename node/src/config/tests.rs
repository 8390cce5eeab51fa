//! Reading, checking and printing configurations, as an operator sees it.

use std::net::IpAddr;
use std::time::Duration;

use super::*;

/// A file of the reference with every section.
const FRONTIER: &str = include_str!("frontier_sample.yaml");

fn load(text: &str) -> Result<Loaded, ConfigError> {
    NodeConfig::from_yaml("limes.yaml", text, [])
}

fn problems(text: &str) -> Vec<String> {
    load(text).unwrap_err().problems.iter().map(ToString::to_string).collect()
}

fn with_env(text: &str, name: &str, value: &str) -> Result<Loaded, ConfigError> {
    NodeConfig::from_yaml("limes.yaml", text, [(name.to_owned(), value.to_owned())])
}

#[test]
fn every_problem_is_reported_at_once_with_its_path() {
    let found = problems(
        "cluster: {name: 'a b', initial: [{name: x, addr: 'h:1'}, {name: y, addr: 'h:2'}], dirr: z}\n\
         edgebound: {listen: {network: udp, addr: nowhere}}\n\
         limits: {keepalive: 20, body: 64MiB}\n\
         exchange: {hashby: moon}\n\
         colour: green\n",
    );
    let wanted = [
        "cluster.dirr: unknown key; known here: name, listen,",
        "edgebound.listen.network: udp is not supported",
        "edgebound.listen.addr: \"nowhere\" has no port",
        "exchange.hashby: \"moon\" is none of edgeid, srcip,",
        "limits.keepalive: \"20\" has no unit; write it like 20s or 300ms",
        "colour: unknown key",
        "cluster.name: \"a b\" is not a node name",
        "cluster.initial: 2 nodes; list the 1, 3 or 5 founders",
        "limits.body: 64MiB is more than the protocol's 16MiB",
    ];
    for wanted in wanted {
        assert!(found.iter().any(|line| line.starts_with(wanted)), "{wanted:?} is not among {found:#?}");
    }
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
}

#[test]
fn single_problem_is_one_line() {
    let error = load("exchange: {hashby: moon}").unwrap_err();
    assert_eq!(error.to_string().lines().count(), 1, "{error}");
    assert!(error.to_string().starts_with("limes.yaml: exchange.hashby: "), "{error}");
}

#[test]
fn frontier_yaml_loads_unchanged() {
    let loaded = load(FRONTIER).unwrap();
    let config = loaded.config;
    assert_eq!(config.cluster.name, "frontier01");
    assert_eq!(&*config.edgebound.listen.addr, "0.0.0.0:30012");
    assert!(!config.edgebound.edgeid_alloc_when_no_idservice_on, "off in the reference, so off in its file");
    assert_eq!(&*config.metrics.listen.addr, "0.0.0.0:9091");
    assert_eq!(config.exchange.hashby, HashBy::SrcIp);
    assert!(!config.controlplane.enable && !config.discovery.enable, "off in the reference");
    assert!(
        matches!(loaded.warnings.as_slice(), [one] if
        ["dao (", "frontlas (", "daemon.rlimit (", "daemon.pprof ("].iter().all(|key| one.contains(key))),
        "one warning for all: {:#?}",
        loaded.warnings
    );
}

#[test]
fn imported_frontier_yaml_has_the_same_settings() {
    let old = load(FRONTIER).unwrap().config;
    let imported = old.to_file();
    let new = load(&imported).unwrap();
    assert_eq!(new.config, old, "{imported}");
    assert_eq!(new.warnings, [""; 0]);
}

#[test]
fn edge_ids_are_allocated_by_default_only_in_our_own_file() {
    assert!(load("").unwrap().config.edgebound.edgeid_alloc_when_no_idservice_on);
    let own = load("edgebound: {listen: {network: tcp}}\ncluster: {name: a}").unwrap();
    assert!(own.config.edgebound.edgeid_alloc_when_no_idservice_on);
    let theirs = load("edgebound: {listen: {network: tcp, addr: '127.0.0.1:1'}}").unwrap();
    assert!(!theirs.config.edgebound.edgeid_alloc_when_no_idservice_on);
}

#[test]
fn default_file_loads_as_the_defaults() {
    let file = NodeConfig::default_file();
    let loaded = load(&file).unwrap_or_else(|error| panic!("{error}\n{file}"));
    assert_eq!(loaded.config, NodeConfig::default(), "{file}");
    assert_eq!(loaded.warnings, [""; 0]);
    let settings = file.lines().filter(|line| line.contains(": ") && !line.trim_start().starts_with('#'));
    assert!(settings.count() > 25, "{file}");
    assert!(file.contains("# This node's name"), "a comment is missing in {file}");
}

#[test]
fn written_file_loads_as_the_same_settings() {
    let mut config = NodeConfig::default();
    config.cluster.name = "3".into();
    config.data = "/a b/c".into();
    config.cluster.heartbeat = Duration::from_millis(250);
    config.cluster.election = Election { min: Duration::from_millis(1_500), max: Duration::from_secs(3) };
    config.cluster.down_after = Some(Duration::from_secs(4));
    config.cluster.initial = vec![Member { name: "3".into(), addr: Addr::new("::1", 7) }];
    config.cluster.isolated_close = IsolatedClose::Never;
    config.cluster.advertise = Some("::1".into());
    config.limits.keepalive = Duration::from_millis(1_500);
    assert_eq!(load(&config.to_file()).unwrap().config, config, "{}", config.to_file());
}

#[test]
fn environment_overrides_the_file() {
    let file = "cluster: {name: a}";
    let name = |loaded: Loaded| loaded.config.cluster.name;
    assert_eq!(name(with_env(file, "LIMES_CLUSTER_NAME", "b").unwrap()), "b");
    let loaded = with_env(file, "LIMES_CLUSTER_INITIAL", "a=127.0.0.1:1, b=h:2,c=h:3").unwrap();
    assert_eq!(loaded.config.cluster.initial.len(), 3);
    let error = with_env(file, "LIMES_LIMITS_KEEPALIVE", "soon").unwrap_err();
    assert!(error.to_string().contains("LIMES_LIMITS_KEEPALIVE: "), "{error}");
    let warned = |name: &str| with_env(file, name, "x").unwrap().warnings.len();
    assert_eq!(
        (warned("LIMES_TYPO"), warned("LIMES_SERVICE_HOST"), warned("LIMES_LOG"), warned("OTHER")),
        (1, 0, 0, 0)
    );
}

#[test]
fn mesh_beyond_loopback_must_be_marked_insecure() {
    let open = "cluster: {listen: {addr: '0.0.0.0:30013'}}";
    let found = problems(open);
    assert!(matches!(found.as_slice(), [one] if one.contains("set cluster.insecure: true")), "{found:?}");
    assert!(load("cluster: {insecure: true, listen: {addr: '0.0.0.0:30013'}}").is_ok());
}

#[test]
fn inconsistent_timing_is_rejected() {
    let found =
        problems("cluster: {heartbeat: 200ms, election: {min: 300ms, max: 300ms}, down_after: 500ms}");
    let wanted = ["cluster.election.min: ", "cluster.election.max: ", "cluster.down_after: "];
    assert_eq!(found.len(), wanted.len(), "{found:?}");
    assert!(found.iter().zip(wanted).all(|(found, wanted)| found.starts_with(wanted)), "{found:?}");
    let config = load("cluster: {heartbeat: 250ms, election: {min: 1s, max: 2s}}").unwrap().config;
    assert_eq!(config.cluster.down_after(), Duration::from_secs(3));
}

#[test]
fn unsupported_features_are_rejected_by_name_only_when_enabled() {
    let found = problems(
        "discovery: {listen: {tls: {enable: true}}}\nedgebound: {listen: {network: tcp}}\nmqm: {kafka: {enable: true}, nats: {enable: false}}",
    );
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().any(|line| line.starts_with("mqm: ")), "{found:?}");
    let off =
        "edgebound: {listen: {tls: {enable: false, mtls: false, certs: []}}}\nmqm: {kafka: {enable: false}}";
    assert!(load(off).is_ok());
    // Everything below a block that is off is off.
    for off in [
        "controlplane: {listen: {tls: {enable: false, mtls: true, certs: [{cert: a, key: b}]}}}",
        "controlplane: {enable: false, listen: {tls: {enable: true}}}",
        "mqm: {nats: {enable: false, jetstream: {enable: true}}}",
    ] {
        assert!(load(off).is_ok(), "{off}");
    }
    let on = ["controlplane: {listen: {tls: {enable: true}}}", "mqm: {nats: {enable: true}}"];
    assert!(on.iter().all(|on| problems(on).len() == 1));
}

#[test]
fn bypass_of_the_reference_is_read() {
    let file = FRONTIER.replace("bypass_enable: false", "bypass_enable: true");
    let edgebound = load(&file).unwrap().config.edgebound;
    assert!(edgebound.bypass_enable && edgebound.bypass.tls.enable && edgebound.bypass.tls.mtls);
    assert_eq!(edgebound.bypass.addrs, [Addr::new("192.168.1.10", 8443)]);
    let found = problems("edgebound: {bypass_enable: true, bypass: {tls: {enable: true, mtls: true}}}");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("edgebound.bypass.addrs: "), "{found:?}");
}

#[test]
fn listeners_with_the_same_address_are_rejected() {
    let found = problems("edgebound: {listen: {addr: '127.0.0.1:30011'}}");
    assert_eq!(found, ["servicebound.listen.addr: 127.0.0.1:30011 is also edgebound.listen.addr"]);
}

#[test]
fn advertised_addresses_can_be_dialled() {
    let three = "initial: [{name: a, addr: '10.0.0.1:30013'}, {name: b, addr: '10.0.0.2:30013'}, {name: c, addr: '10.0.0.3:30013'}]";
    let open = "edgebound: {listen: {addr: ':30012'}}";
    let addresses = |text: &str| load(text).unwrap().config.addresses();
    let founder = addresses(&format!(
        "cluster: {{name: b, listen: {{addr: ':30013'}}, insecure: true, {three}}}\n{open}"
    ));
    assert_eq!((&*founder.mesh, &*founder.edges), ("10.0.0.2:30013", "10.0.0.2:30012"));
    let joiner = format!(
        "cluster: {{name: d, listen: {{addr: ':30013'}}, insecure: true, advertise: d.example, {three}}}\n{open}"
    );
    assert_eq!(&*addresses(&joiner).mesh, "d.example:30013");
    // A file of the reference has no other address: then the machine's own address is used.
    let alone = load(FRONTIER).unwrap().config.addresses();
    assert!(alone.services.is_unspecified());
    let own = || Some(IpAddr::from([10, 0, 0, 7]));
    assert_eq!(&*alone.services.clone().dialable(own), "10.0.0.7:30011");
    assert_eq!(alone.services.clone().dialable(|| None), alone.services);
    assert_eq!(&*Addr::new("gateway.example", 1).dialable(own), "gateway.example:1");
    let nowhere = problems(&joiner.replace("advertise: d.example, ", ""));
    assert!(matches!(nowhere.as_slice(), [one] if one.starts_with("cluster.advertise: ")), "{nowhere:?}");
}

/// A file of the reference's directory server, with the misspelt keys of its sample.
const FRONTLAS: &str = include_str!("frontlas_sample.yaml");

#[test]
fn file_of_the_directory_server_sets_the_discovery_address() {
    let loaded = load(FRONTLAS).unwrap();
    let discovery = &loaded.config.discovery;
    assert!(discovery.enable && &*discovery.listen.addr == "0.0.0.0:40111", "{discovery:?}");
    assert_eq!(loaded.warnings.len(), 1, "{:#?}", loaded.warnings);
    assert!(loaded.warnings[0].contains("frontier_manager (") && loaded.warnings[0].contains("redis ("));
}

#[test]
fn file_that_uses_a_directory_server_enables_discovery() {
    let file = FRONTIER.replace("frontlas:\n  enable: false", "frontlas:\n  enable: true");
    let by_file = load(&file).unwrap().config.discovery;
    let by_variable = with_env(FRONTIER, "FRONTLAS_ADDR", "frontlas:40012").unwrap().config.discovery;
    for discovery in [by_file, by_variable] {
        assert!(discovery.enable && &*discovery.listen.addr == "0.0.0.0:40011", "{discovery:?}");
    }
}

#[test]
fn control_plane_of_the_reference_is_read_only_beyond_loopback() {
    let open = FRONTIER.replace("controlplane:\n  enable: false", "controlplane:\n  enable: true");
    let loaded = load(&open).unwrap();
    assert!(loaded.config.controlplane.enable && loaded.config.controlplane.read_only);
    assert!(loaded.warnings.iter().any(|line| line.contains("served read-only")), "{:?}", loaded.warnings);
    assert_eq!(load(&loaded.config.to_file()).unwrap().config, loaded.config);
    let local = open.replace("0.0.0.0:30010", "127.0.0.1:30010");
    assert!(!load(&local).unwrap().config.controlplane.read_only);
}

#[test]
fn own_control_plane_beyond_loopback_must_be_marked_insecure() {
    let open = "controlplane: {listen: {addr: '0.0.0.0:30010'}";
    let found = problems(&format!("{open}}}"));
    assert!(matches!(found.as_slice(), [one] if one.contains("controlplane.insecure: true")), "{found:?}");
    for more in ["insecure: true", "read_only: true", "enable: false"] {
        assert!(load(&format!("{open}, {more}}}")).is_ok(), "{more}");
    }
}

#[test]
fn variables_of_the_reference_apply_to_its_files_only() {
    let vars = [
        ("FRONTIER_EDGEBOUND_PORT", "31012"),
        ("FRONTIER_SERVICEBOUND_PORT", "31011"),
        ("NODE_NAME", "worker-3"),
        ("FRONTIER_DRAIN_SECONDS", "-5"),
        ("LOG_LEVEL", "warn"),
        ("REDIS_TYPE", "standalone"),
    ];
    let vars = || vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let loaded = NodeConfig::from_yaml("frontier.yaml", FRONTIER, vars()).unwrap();
    let config = loaded.config;
    assert_eq!((config.edgebound.listen.addr.port(), config.servicebound.listen.addr.port()), (31012, 31011));
    assert_eq!((config.cluster.name.as_str(), config.log.level), ("frontier-worker-3", Level::Warn));
    assert_eq!(config.cluster.drain_grace, Duration::from_secs(30));
    assert!(loaded.warnings[0].contains("REDIS_TYPE ("), "{:?}", loaded.warnings);
    assert_eq!(NodeConfig::from_yaml("limes.yaml", "", vars()).unwrap().config, NodeConfig::default());
    let found = with_env(FRONTIER, "FRONTIER_EDGEBOUND_PORT", "x").unwrap_err().to_string();
    assert!(found.contains("FRONTIER_EDGEBOUND_PORT: is not a port"), "{found}");
}

/// What starts in the reference starts here.
#[test]
fn file_of_the_reference_is_read_as_leniently_as_there() {
    let edges = "edgebound: {listen: {network: tcp, addr: '127.0.0.1:1'}";
    let plain = load(&format!("{edges}}}")).unwrap().config;
    let same = [
        "}\ncontrolplane: {enable: false, listen: {network: '', addr: ''}}",
        "}\ncontrolplane: {listen: {addr: ''}}",
        "}\ncontrolplane: {enable: no, listen: {addr: '', network: ''}}",
        ", bypass_enable: false, bypass: {network: '', addrs: }}",
        ", bypass: {network: ''}}",
        "}\nlog: {level: ''}",
        "}\nlog: {level: INFO}",
        "}\nexchange: {hashby: }",
        "}\ndaemon: {frontier_id: , pid_file: }",
        "}\nservicebound: {listen: {advertised_addr: , tls: }}",
    ];
    for rest in same {
        let loaded = load(&format!("{edges}{rest}")).unwrap_or_else(|error| panic!("{rest}: {error}"));
        assert_eq!(loaded.config, plain, "{rest}");
        assert_eq!(loaded.warnings, [""; 0], "{rest}");
        let own = load(&format!("limits: {{}}\n{edges}{rest}"));
        assert!(own.is_err(), "{rest} in our own file");
    }
    let named = [
        ("}\nexchange: {hashby: moon}", "exchange.hashby: moon (taken for edgeid"),
        ("}\ncolour: green", "colour (unknown key"),
        (", maxconn: 5}", "edgebound.maxconn (unknown key"),
        ("}\ncontrolplane: {listen: {network: udp, addr: nowhere}}", "controlplane.listen.addr (it is off)"),
        (", bypass: {network: tcp, addrs: [nowhere]}}", "edgebound.bypass.addrs (it is off)"),
    ];
    for (rest, wanted) in named {
        let loaded = load(&format!("{edges}{rest}")).unwrap_or_else(|error| panic!("{rest}: {error}"));
        assert_eq!(loaded.config, plain, "{rest}");
        assert!(matches!(&loaded.warnings[..], [one] if one.contains(wanted)), "{:?}", loaded.warnings);
        assert!(load(&format!("limits: {{}}\n{edges}{rest}")).is_err(), "{rest} in our own file");
    }
    // A file that the reference rejects is rejected here too.
    for rest in ["}\nlog: {level: loud}", ", bypass_enable: yes, bypass: {network: '', addrs: ['h:1']}}"] {
        assert_eq!(problems(&format!("{edges}{rest}")).len(), 1, "{rest}");
    }
}

#[test]
fn variables_of_the_reference_without_effect_are_reported_with_their_replacement() {
    let vars = [("FRONTIER_EDGEBOUND_PORT", "1"), ("NODE_NAME", "a"), ("LIMES_CLUSTER_NAME", "b")];
    let vars = |count| vars.into_iter().take(count).map(|(name, value)| (name.to_owned(), value.to_owned()));
    let warned = |text, count| NodeConfig::from_yaml("x.yaml", text, vars(count)).unwrap().warnings;
    let warnings = warned("cluster: {name: a}", 2);
    let wanted =
        "FRONTIER_EDGEBOUND_PORT (use LIMES_EDGEBOUND_LISTEN_ADDR), NODE_NAME (use LIMES_CLUSTER_NAME)";
    assert!(matches!(&warnings[..], [one] if one.ends_with(wanted)), "{warnings:?}");
    assert!(!warned("cluster: {name: a}", 3)[0].contains("NODE_NAME"), "its replacement is set");
    let kubernetes = with_env("cluster: {name: a}", "NODE_NAME", "worker-3").unwrap();
    assert_eq!(kubernetes.warnings, [""; 0], "other programs use that name too");
    assert!(!warned(FRONTIER, 2).iter().any(|line| line.contains("not to this file")));
}

/// PROTOCOL.md, 9.2 and 9.3, names every limit with its default.
#[test]
fn protocol_document_lists_every_limit_with_its_default() {
    let document = include_str!("../../../wire/PROTOCOL.md");
    let plain = document.replace(',', "");
    let printed = super::print::all(&mut Limits::default());
    let values =
        printed.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(": "));
    let mut count = 0;
    for (name, value) in values {
        let row = match (name, value) {
            ("memory", "auto") => "| `limits.memory` | three quarters of the machine's".to_owned(),
            ("stall", "10s") => "for 10 s (`limits.stall`)".to_owned(),
            _ => format!("| `limits.{name}` | {value} |"),
        };
        assert!(plain.contains(&row), "clause 9 lacks: {row}");
        count += 1;
    }
    assert!(count >= 12, "{printed}");
}
