//! Tests of domain files.

use proptest::prelude::*;

use super::*;

const HASH: &str = r#"
name = "hash"
kernel = "hash"
ramdisk = "small"
memory = 32
vcpus = 2
cpus = "0-3,^2"
cpu_weight = 512
cap = 150
disk = ["target=disk0, vdev=xvda, access=rw", "disk1,xvdb,r"]
vif = ["rate=10Mb/s"]
cmdline = "verbose"
on_crash = "preserve"
vuart = "sbsa_uart"
enhanced = "disabled"
"#;

fn parse(text: &str, arguments: &[&str]) -> Result<DomainConfig, ConfigError> {
    let overrides: Result<Vec<_>, _> = arguments.iter().map(|text| Override::parse(text)).collect();
    DomainConfig::parse(text, &overrides?)
}

fn message(text: &str, arguments: &[&str]) -> String {
    parse(text, arguments).unwrap_err().to_string()
}

#[test]
fn every_key_is_read() {
    let config = parse(HASH, &[]).unwrap();
    assert_eq!((config.name.as_str(), config.kernel.as_str()), ("hash", "hash"));
    assert_eq!(config.ramdisk.as_deref(), Some("small"));
    assert_eq!((config.memory, config.vcpus), (32, 2));
    assert_eq!(config.disk.len(), 2);
    assert_eq!(config.disk[1].target.to_string(), "disk1");
    assert_eq!(config.cpus.bits(), 0b1011);
    assert_eq!((config.cpu_weight, config.cap), (512, 150));
    assert_eq!(config.cmdline, "verbose");
    assert_eq!(config.on_crash, Action::Preserve);
    assert_eq!(config.vuart, Some(Uart::SbsaUart));
    assert_eq!(config.enhanced, Enhanced::Disabled);
}

#[test]
fn only_name_and_kernel_are_needed() {
    let config = parse("name = 'a'\nkernel = 'b'", &[]).unwrap();
    assert_eq!((config.memory, config.vcpus), (16, 1));
    assert_eq!((config.cpus, config.cpu_weight, config.cap), (Cpus::ALL, 256, 0));
    assert_eq!((config.max_grant_frames, config.event_channels), (64, 1023));
    let action = |reason| config.action(reason);
    assert_eq!(action(ShutdownReason::Poweroff), Action::Destroy);
    assert_eq!(action(ShutdownReason::Reboot), Action::Restart);
    assert_eq!(action(ShutdownReason::Crash), Action::Destroy);
    assert_eq!(action(ShutdownReason::Watchdog), Action::Destroy);
    assert!(config.disk.is_empty() && config.cmdline.is_empty());
    assert_eq!(message("name = 'a'", &[]), "line 1: missing key `kernel`");
}

#[test]
fn an_unknown_key_is_named_with_the_known_ones() {
    let text = message("name = 'a'\nkernel = 'b'\nmemroy = 5", &[]);
    assert!(text.starts_with("line 3: unknown key `memroy`, expected one of `name`"), "{text}");
    for key in [
        "kernel",
        "memory",
        "vcpus",
        "cpus",
        "cpu_weight",
        "cap",
        "disk",
        "vif",
        "cmdline",
        "on_crash",
    ] {
        assert!(text.contains(key), "{text} lacks {key}");
    }
    assert!(message(HASH, &["memroy=5"]).starts_with("unknown key `memroy`"));
}

#[test]
fn arguments_replace_keys() {
    let config = parse(
        HASH,
        &["name=other", "memory=64", "cmdline=write=42 a", "disk=disk2,xvdc,r", "on_crash=restart"],
    )
    .unwrap();
    assert_eq!(config.name, "other");
    assert_eq!(config.memory, 64);
    assert_eq!(config.cmdline, "write=42 a");
    assert_eq!(config.disk, [DiskSpec::parse("disk2,xvdc,r").unwrap()]);
    assert_eq!(config.on_crash, Action::Restart);
    assert_eq!(config.vcpus, 2);
}

#[test]
fn cpus_may_be_given_in_many_ways() {
    for (text, bits) in [
        ("cpus=2", 0b100),
        ("cpus=0,2", 0b101),
        ("cpus=[0,2]", 0b101),
        ("cpus=['0-1','3']", 0b1011),
    ] {
        assert_eq!(parse(HASH, &[text]).unwrap().cpus.bits(), bits, "{text}");
    }
    assert_eq!(parse(HASH, &["cpus=all"]).unwrap().cpus, Cpus::ALL);
}

#[test]
fn arguments_may_be_toml() {
    let config = parse(HASH, &[r#"disk=["disk0,xvda,w"]"#]).unwrap();
    assert_eq!(config.disk.len(), 1);
    assert!(parse(HASH, &["disk=[]"]).unwrap().disk.is_empty());
    // Text stays text, whatever it looks like.
    assert_eq!(parse(HASH, &["cmdline=true"]).unwrap().cmdline, "true");
}

#[test]
fn wrong_values_are_named() {
    assert!(message(HASH, &["memory=lots"]).contains("lots"));
    assert_eq!(message(HASH, &["memory=0"]), "memory = 0 is out of range: 2 to 3072 MiB");
    assert_eq!(message(HASH, &["memory=-1"]), "memory = -1 is out of range: 2 to 3072 MiB");
    assert_eq!(message(HASH, &["vcpus=9"]), "vcpus = 9 is out of range: 1 to 8 vCPUs");
    assert_eq!(
        message(HASH, &["cpu_weight=0"]),
        "cpu_weight = 0 is out of range: 1 to 65535 (256 is usual)"
    );
    assert!(message(HASH, &["cap=-1"]).contains("0 to 65535 percent"));
    assert!(message(HASH, &["cpus=3-1"]).contains("cpus: `3-1` is not a set of CPUs"));
    assert!(message(HASH, &["cpus=1.5"]).contains("a CPU, a text"));
    assert!(message(HASH, &["name=7"]).contains("`7` is not a name"));
    assert!(message(HASH, &["name=a/b"]).contains("`a/b` is not a name"));
    assert!(message(HASH, &["on_crash=explode"]).contains("`destroy`, `preserve`, `restart`"));
    assert!(message(HASH, &["on_crash=coredump-destroy"]).contains("no place"));
    assert!(message(HASH, &["event_channels=1"]).contains("2 to 131071 ports"));
    assert!(message(HASH, &["disk=disk0,sda"]).contains("xvda to xvdp"));
    assert!(message(HASH, &[r#"disk=["disk0,xvda","disk1,xvda"]"#]).contains("xvda is taken"));
    assert!(message(HASH, &["disk=5"]).contains("list"));
    assert!(message(HASH, &["vif=bridge=br7"]).contains("the only one is xenbr0"));
    assert_eq!(message(HASH, &["verbose"]), "`verbose` is not key=value");
    assert_eq!(message(HASH, &["=5"]), "`=5` is not key=value");
}

#[test]
fn a_syntax_error_has_its_line() {
    assert!(message("name = 'a'\n\nkernel = = 'b'", &[]).starts_with("line 3: "));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}", argument in ".{0,40}") {
        let _ = parse(&text, &[]);
        let _ = parse(HASH, &[&argument]);
    }

    #[test]
    fn memory_is_what_was_asked(mebibytes in MEMORY_MIN..=MEMORY_MAX) {
        let config = parse(HASH, &[&format!("memory={mebibytes}")]).unwrap();
        prop_assert_eq!(config.memory, mebibytes);
    }
}

#[test]
fn there_may_be_more_vcpus_later() {
    let parse = |arguments: &[&str]| {
        let overrides: Vec<_> =
            arguments.iter().map(|text| Override::parse(text).unwrap()).collect();
        DomainConfig::parse("name = 'a'\nkernel = 'a'", &overrides)
    };
    assert_eq!(parse(&[]).unwrap().max_vcpus(), 1);
    assert_eq!(parse(&["vcpus=3"]).unwrap().max_vcpus(), 3);
    let config = parse(&["vcpus=3", "maxvcpus=8"]).unwrap();
    assert_eq!((config.vcpus, config.max_vcpus()), (3, 8));
    let error = parse(&["vcpus=3", "maxvcpus=2"]).unwrap_err();
    assert_eq!(error, ConfigError::TooManyVcpus { vcpus: 3, most: 2 });
    assert!(parse(&["maxvcpus=9"]).unwrap_err().to_string().contains("1 to 8"));
}

#[test]
fn there_may_be_more_memory_later() {
    assert_eq!(parse(HASH, &[]).unwrap().max_memory(), 32);
    let config = parse(HASH, &["maxmem=64"]).unwrap();
    assert_eq!((config.memory, config.max_memory()), (32, 64));
    let error = ConfigError::TooMuchMemory { memory: 32, most: 16 };
    assert_eq!(parse(HASH, &["maxmem=16"]), Err(error));
}

#[test]
fn a_command_becomes_one_quoted_boot_argument() {
    let arguments =
        |arguments: &[&str]| parse("name = 'a'\nkernel = 'b'", arguments).unwrap().boot_arguments();
    assert_eq!(arguments(&[]), "");
    assert_eq!(arguments(&["cmdline=quiet"]), "quiet");
    assert_eq!(arguments(&["run=ls /"]), r#"run="ls /""#);
    assert_eq!(
        arguments(&["cmdline=quiet", r#"run=echo "a" '\n'"#]),
        r#"quiet run="echo \x22a\x22 '\x5cn'""#
    );
}
