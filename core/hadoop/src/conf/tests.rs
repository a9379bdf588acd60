//! The reader against what Hadoop itself makes of the same files (`tests/golden/make`), and against mistakes.

use super::defaults::DEFAULTS;
use super::*;
use std::time::Duration;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/conf").join(name)
}

/// The environment that `make` gives to Java.
fn environment() -> Environment {
    let variables = [("EMPTY", ""), ("SET", "yes")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    Environment::new("alice", "/home/alice", "/tmp", variables)
}

/// A configuration of one file with these properties, and the folder it stands in.
fn conf_of(body: &str) -> (Result<Configuration, ConfError>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let xml =
        format!("<configuration xmlns:xi=\"http://www.w3.org/2001/XInclude\">\n{body}\n</configuration>\n");
    std::fs::write(folder.path().join("core-site.xml"), xml).unwrap();
    (Configuration::load(&[folder.path().to_owned()], environment()), folder)
}

/// A configuration of `key=value` lines.
pub(super) fn conf_with(lines: &str) -> Configuration {
    let mut conf = Configuration::defaults(environment());
    for (key, value) in lines.lines().filter_map(|line| line.trim().split_once('=')) {
        conf.set(key, value, "a test");
    }
    conf
}

#[test]
fn every_value_is_what_hadoop_reads() {
    let conf = Configuration::load(&[golden("")], environment()).unwrap();
    let expected = std::fs::read_to_string(golden("expected.tsv")).unwrap();
    let (mut checked, mut names) = (0, std::collections::BTreeSet::new());
    for line in expected.lines() {
        let [form, key, value] = line.splitn(3, '\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let value = value.replace("\\n", "\n");
        let micros = |d: Option<Duration>| d.unwrap().as_micros().to_string();
        let ours = match form {
            // Ours comes without the blanks that Hadoop's getters cut off later.
            "get" => conf.get(key).map(|v| v.unwrap()),
            "int" => conf.get_int(key, 0).map(|v| v.to_string()),
            "size" => conf.get_size(key, 0).map(|v| v.to_string()),
            "bool" => conf.get_bool(key, false).map(|v| v.to_string()),
            "list" => conf.get_list(key).map(|v| v.join(";")),
            // The golden file counts numbers without a unit in microseconds.
            "time" if key == "time.plain" => Ok(value.clone()),
            "time" => conf.get_time(key, TimeUnit::Millis, None).map(micros),
            other => panic!("{other}"),
        };
        match (ours, value.starts_with('!')) {
            (Ok(ours), false) => assert_eq!(ours, value.trim(), "{form} {key}"),
            (Err(error), true) => assert!(error.to_string().contains(key), "{error}"),
            (ours, _) => panic!("{form} {key}: Hadoop {value}, ours {ours:?}"),
        }
        checked += 1;
        names.insert(key.to_owned());
    }
    assert!(checked > 80);
    let ours: std::collections::BTreeSet<String> = conf
        .properties()
        .filter(|(_, p)| p.source != Source::Default)
        .map(|(key, _)| key.to_owned())
        .collect();
    assert_eq!(ours, names, "the same keys are set");
}

#[test]
fn defaults_are_hadoops_own() {
    // Where versions differ the table says why it takes which.
    let choices = ["ipc.client.rpc-timeout.ms", "yarn.am.liveness-monitor.expiry-interval-ms"];
    for version in ["3.3.6", "3.4.2", "3.5.0"] {
        let text = std::fs::read_to_string(golden(&format!("defaults-{version}.tsv"))).unwrap();
        let theirs: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('\t')).collect();
        assert_eq!(theirs.len(), DEFAULTS.len(), "run tests/golden/make");
        for (key, value) in DEFAULTS.iter().filter(|(key, _)| !choices.contains(key)) {
            assert_eq!(theirs.get(key), Some(value), "{key} in {version}");
        }
    }
}

#[test]
fn values_know_where_they_stand() {
    let conf = Configuration::load(&[golden("")], environment()).unwrap();
    let place = |key: &str| conf.property(key).unwrap().source.to_string();
    assert!(place("x.final").ends_with("core-site.xml:15 (final)"), "{}", place("x.final"));
    assert!(place("x.included").ends_with("extra/included.xml:2"), "{}", place("x.included"));
    assert!(place("fs.defaultFS").ends_with(" (as fs.default.name)"), "{}", place("fs.defaultFS"));
    assert!(place("x.closed.later").ends_with(" (final)"));
    assert_eq!(place("dfs.replication"), "Hadoop's default");
    assert_eq!(conf.files().len(), 3);
    assert_eq!(conf.property("fs.default.name"), conf.property("fs.defaultFS"), "old names are understood");
}

#[test]
fn the_first_directory_that_has_a_file_gives_it() {
    let folder = tempfile::tempdir().unwrap();
    let xml = "<configuration><property><name>x.file</name><value>mine</value></property></configuration>";
    std::fs::write(folder.path().join("yarn-site.xml"), xml).unwrap();
    let directories = [folder.path().to_owned(), golden("")];
    let conf = Configuration::load(&directories, environment()).unwrap();
    assert_eq!(conf.get("x.file").unwrap().as_deref(), Some("mine"));
    assert_eq!(conf.get("yarn.client.max-cached-nodemanagers-proxies").unwrap(), None);
    assert_eq!(conf.get("v.x").unwrap().as_deref(), Some("ok"));
    let missing = Configuration::load(&[folder.path().join("none")], environment());
    assert!(missing.unwrap_err().to_string().contains("none"));
}

#[test]
fn a_flag_wins_over_final_values() {
    let mut conf = Configuration::load(&[golden("")], environment()).unwrap();
    conf.set("x.final", "3", "--conf");
    conf.set("fs.default.name", "hdfs://new:1", "--conf");
    assert_eq!(conf.get("x.final").unwrap().as_deref(), Some("3"));
    assert_eq!(conf.get("fs.defaultFS").unwrap().as_deref(), Some("hdfs://new:1"));
    assert_eq!(conf.property("x.final").unwrap().source.to_string(), "--conf");
}

#[test]
fn broken_files_name_file_and_line() {
    for (body, line, part) in [
        ("<property>\n<name>a</name>\n<value>b</value>", 5, "expected"),
        ("<property><value>b</value></property>", 2, "without a name"),
        ("<a/>\n<xi:include href=\"none.xml\"/>", 3, "none.xml"),
        ("<xi:include href=\"http://host/x.xml\"/>", 2, "no fallback"),
        ("<xi:include/>", 2, "href"),
        ("<xi:include href=\"core-site.xml\"/>", 2, "more than 10 deep"),
        ("<xi:include href=\"x\" parse=\"text\"/>", 2, "as XML"),
        ("&undefined;", 2, "undefined"),
    ] {
        let (conf, _folder) = conf_of(body);
        let text = conf.expect_err(body).to_string();
        assert!(text.contains(&format!("core-site.xml:{line}: ")) && text.contains(part), "{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hdfs-site.xml"), "<html><body/></html>").unwrap();
    let text = Configuration::load(&[folder.path().to_owned()], environment()).unwrap_err().to_string();
    assert!(text.contains("<html>") && text.contains("<configuration>"), "{text}");
}

#[test]
fn deep_nesting_and_entity_bombs_are_errors_and_no_crash() {
    let deep = format!("{}{}", "<a>".repeat(200_000), "</a>".repeat(200_000));
    let (conf, _folder) = conf_of(&deep);
    assert!(conf.unwrap_err().to_string().contains("deep"));
    let attributes = format!("<a b=\"</x></x>\">{}", "<a b='</a>'>".repeat(100_000));
    let (conf, _folder) = conf_of(&attributes);
    assert!(conf.is_err(), "closing tags in attributes do not hide the depth");
    let folder = tempfile::tempdir().unwrap();
    let entities: String =
        (1..30).map(|i| format!("<!ENTITY e{i} \"{}\">", format!("&e{};", i - 1).repeat(10))).collect();
    let bomb = format!("<!DOCTYPE c [<!ENTITY e0 \"x\">{entities}]><configuration>&e29;</configuration>");
    std::fs::write(folder.path().join("core-site.xml"), bomb).unwrap();
    assert!(Configuration::load(&[folder.path().to_owned()], environment()).is_err());
}

#[test]
fn wrong_values_name_key_place_and_what_would_be_right() {
    let (conf, _folder) = conf_of(
        "<property><name>dfs.blocksize</name><value>64mb</value></property>
         <property><name>yarn.resourcemanager.ha.enabled</name><value>yes</value></property>
         <property><name>yarn.resourcemanager.address</name><value>rm:port</value></property>",
    );
    let conf = conf.unwrap();
    let text = conf.get_size("dfs.blocksize", 0).unwrap_err().to_string();
    assert!(text.contains("core-site.xml:2: dfs.blocksize = \"64mb\"") && text.contains("128m"), "{text}");
    let text = conf.rm_addresses(RmService::Client).unwrap_err().to_string();
    assert!(text.contains("core-site.xml:3") && text.contains("neither true nor false"), "{text}");
    let text = conf.get_address("yarn.resourcemanager.address", 8032).unwrap_err().to_string();
    assert!(text.contains("rm:port") && text.contains("host.example.org:8032"), "{text}");
    let text = conf.require("yarn.resourcemanager.principal").unwrap_err().to_string();
    assert!(
        text.contains("yarn.resourcemanager.principal is not set in") && text.contains("core-site.xml"),
        "{text}"
    );
    let never = conf_with("a=-1\nb=1d").get_time("a", TimeUnit::Seconds, Some(Duration::ZERO)).unwrap();
    assert_eq!(never, None);
}

#[test]
fn the_map_for_the_hdfs_client_is_clean() {
    let (conf, _folder) = conf_of(
        "<property><name>dfs.ha.namenodes.prod</name><value> nn1 , nn2\n</value></property>
         <property><name>dfs.namenode.rpc-address.prod.nn1</name><value>\n ${h}:8020 </value></property>
         <property><name>h</name><value>host1</value></property>
         <property><name>hadoop.security.authentication</name><value>SIMPLE</value></property>
         <property><name>dfs.data.transfer.protection</name><value></value></property>
         <property><name>loop.a</name><value>${loop.b}</value></property>
         <property><name>loop.b</name><value>${loop.a}</value></property>",
    );
    let map = conf.unwrap().resolved();
    assert_eq!(map["dfs.ha.namenodes.prod"], "nn1,nn2");
    assert_eq!(map["dfs.namenode.rpc-address.prod.nn1"], "host1:8020");
    assert_eq!(map["hadoop.security.authentication"], "simple");
    assert_eq!(map["loop.a"], "${loop.b}");
    assert!(!map.contains_key("dfs.data.transfer.protection") && !map.contains_key("dfs.replication"));
}

#[test]
fn resourcemanagers_with_and_without_high_availability() {
    let one = conf_with("yarn.resourcemanager.hostname=rm");
    let address = |conf: &Configuration, service| {
        conf.rm_addresses(service)
            .map(|all| all.into_iter().map(|rm| (rm.id.unwrap_or_default(), rm.address)).collect::<Vec<_>>())
    };
    assert_eq!(address(&one, RmService::Client).unwrap(), [("".into(), "rm:8032".into())]);
    assert_eq!(address(&one, RmService::Scheduler).unwrap(), [("".into(), "rm:8030".into())]);
    assert_eq!(one.rm_web_urls().unwrap(), ["http://rm:8088"]);
    let two = conf_with(
        "yarn.resourcemanager.ha.enabled=true
         yarn.resourcemanager.ha.rm-ids= rm1 , rm2
         yarn.resourcemanager.hostname.rm1=host1
         yarn.resourcemanager.address.rm2=host2:9032
         yarn.http.policy=HTTPS_ONLY
         yarn.resourcemanager.hostname.rm2=host2",
    );
    let pair = |a: &str, b: &str| [("rm1".to_owned(), a.to_owned()), ("rm2".to_owned(), b.to_owned())];
    assert_eq!(address(&two, RmService::Client).unwrap(), pair("host1:8032", "host2:9032"));
    assert_eq!(address(&two, RmService::Scheduler).unwrap(), pair("host1:8030", "host2:8030"));
    assert_eq!(two.rm_web_urls().unwrap(), ["https://host1:8090", "https://host2:8090"]);
    let no_ids = conf_with("yarn.resourcemanager.ha.enabled=true");
    assert!(address(&no_ids, RmService::Client).unwrap_err().to_string().contains("rm-ids"));
    let no_host = conf_with("yarn.resourcemanager.ha.enabled=true\nyarn.resourcemanager.ha.rm-ids=rm1");
    let text = address(&no_host, RmService::Scheduler).unwrap_err().to_string();
    assert!(
        text.contains("yarn.resourcemanager.scheduler.address.rm1") && text.contains("hostname.rm1"),
        "{text}"
    );
}

#[test]
fn namenodes_of_hosts_nameservices_and_federations() {
    let conf = conf_with(
        "dfs.nameservices=prod,single
         dfs.ha.namenodes.prod=nn1,nn2
         dfs.namenode.rpc-address.prod.nn1=host1:8020
         dfs.namenode.rpc-address.prod.nn2=host2
         dfs.namenode.rpc-address.single=host3:9000
         dfs.ha.namenodes.broken=nn1",
    );
    assert_eq!(conf.namenodes("prod").unwrap(), ["host1:8020", "host2:8020"]);
    assert_eq!(conf.namenodes("single").unwrap(), ["host3:9000"]);
    assert_eq!(conf.namenodes("host4").unwrap(), ["host4:8020"]);
    assert_eq!(conf.namenodes("host4:9000").unwrap(), ["host4:9000"]);
    assert_eq!(conf.namenodes("[::1]:9000").unwrap(), ["[::1]:9000"]);
    let text = conf.namenodes("broken").unwrap_err().to_string();
    assert!(text.contains("dfs.namenode.rpc-address.broken.nn1"), "{text}");
    assert!(conf.namenodes("a b").is_err() && conf.namenodes("host:99999").is_err());
}

#[test]
fn locations_in_hdfs_and_behind_mount_tables() {
    let conf = conf_with(
        "fs.defaultFS=viewfs://all
         dfs.nameservices=prod
         dfs.ha.namenodes.prod=nn1
         dfs.namenode.rpc-address.prod.nn1=host1:8020
         fs.viewfs.mounttable.all.link./data=hdfs://prod/warehouse/
         fs.viewfs.mounttable.all.link./data/raw=hdfs://host2:9000/
         fs.viewfs.mounttable.all.link./chain=viewfs://other/x
         fs.viewfs.mounttable.all.linkFallback=hdfs://prod/fallback
         fs.viewfs.mounttable.other.link./x=hdfs://host3/y
         fs.viewfs.mounttable.circle.link./x=viewfs://circle/x
         fs.viewfs.mounttable.nfly.linkNfly.a./x=hdfs://a/,hdfs://b/
         fs.viewfs.mounttable.default.link./d=hdfs://prod/default",
    );
    let uri = |text: &str| conf.locate(text).map(|at| at.uri());
    assert_eq!(uri("hdfs://prod/a//b/./c/../d/").unwrap(), "hdfs://prod/a/b/d");
    assert_eq!(uri("hdfs://host2:9000").unwrap(), "hdfs://host2:9000/");
    assert_eq!(uri("hdfs://Host5/x").unwrap(), "hdfs://Host5:8020/x");
    assert_eq!(uri("/data").unwrap(), "hdfs://prod/warehouse");
    assert_eq!(uri("/data/x y").unwrap(), "hdfs://prod/warehouse/x y");
    assert_eq!(uri("/data/raw/a").unwrap(), "hdfs://host2:9000/a");
    assert_eq!(uri("/database").unwrap(), "hdfs://prod/fallback/database");
    assert_eq!(uri("viewfs://all/chain/z").unwrap(), "hdfs://host3:8020/y/z");
    assert_eq!(uri("viewfs:///d/e").unwrap(), "hdfs://prod/default/e");
    assert_eq!(uri("/").unwrap(), "hdfs://prod/fallback");
    let at = conf.locate("/data").unwrap();
    assert_eq!((at.namenodes, at.is_nameservice), (vec!["host1:8020".to_owned()], true));
    for (text, part) in [
        ("data", "relative"),
        ("s3a://bucket/x", "s3a"),
        ("file:///x", "hdfs and viewfs"),
        ("hdfs:///x", "names no NameNode"),
        ("viewfs://other/", "directory of the mount table itself"),
        ("viewfs://other/q", "not mounted"),
        ("viewfs://circle/x", "circles"),
        ("viewfs://nfly/x", "not supported"),
    ] {
        let error = uri(text).expect_err(text).to_string();
        assert!(error.contains(part), "{error}");
    }
    let local = conf_with("");
    assert!(local.locate("/x").unwrap_err().to_string().contains("file"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_a_getter_panic(value in "[ -~\u{e9}\n${}:./-]{0,60}", other in "[a-z0-9${}:./@,\\[\\]-]{0,30}") {
        let mut conf = conf_with("fs.viewfs.mounttable.t.link./a=hdfs://host/b");
        conf.set("x", &value, "a test");
        conf.set("y", &other, "a test");
        conf.set("fs.defaultFS", &other, "a test");
        for key in ["x", "y"] {
            let _ = (conf.get(key), conf.get_bool(key, true), conf.get_int(key, 0), conf.get_size(key, 0));
            let _ = (conf.get_time(key, TimeUnit::Millis, None), conf.get_list(key), conf.get_address(key, 1));
        }
        for text in [&value, &other, &format!("viewfs://t/{value}"), &format!("/{other}")] {
            if let Ok(at) = conf.locate(text) {
                proptest::prop_assert!(at.path.starts_with('/') && !at.namenodes.is_empty());
            }
            let _ = conf.namenodes(text);
        }
        proptest::prop_assert!(conf.resolved().len() >= 3);
    }
}
