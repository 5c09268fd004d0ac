//! The network: from the host to guests, between guests, and what a guest's end leaves behind.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests::http::Client;
use tests::{Scenario, Shell, Stage};
use xtask::qemu::{Forward, HostPort, Protocol};

pub const SCENARIOS: &[Scenario] = &[
    with_web("network::the_host_fetches_100_mb", fetch_from_host),
    with_web("network::a_thousand_connections", thousand_connections),
    with_web("network::a_guest_fetches_from_another", fetch_from_guest),
    Scenario::new("network::echo_by_tcp_and_udp", echo).on(|machine| {
        machine.forwards = [Protocol::Tcp, Protocol::Udp].map(to_echo).into();
    }),
    Scenario::new("network::a_guest_pings_dom0", ping),
    Scenario::new("network::a_ping_costs_little", ping_cost).on(|machine| machine.icount = true),
    Scenario::new("network::tcp_between_guests_costs_little", tcp_cost)
        .on(|machine| machine.icount = true),
    Scenario::new("network::a_rate_is_kept", rate),
    with_web("network::interfaces_come_and_go", attach_and_detach),
    with_web("network::several_queues_share_the_work", several_queues),
    with_web("network::guests_end_in_the_middle_of_traffic", churn),
    Scenario::new("network::bad_interfaces_are_refused", bad_interfaces),
    Scenario::new("network::frontends_that_break_the_protocol_are_closed", hostile).on(|machine| {
        machine.forwards = [Forward::web(HostPort::Any)].into();
        // One for the backend, and one for a frontend that changes what is being read.
        machine.smp = 2;
    }),
    Scenario::new("network::a_port_in_use_costs_only_the_port", port_in_use).on(|machine| {
        machine.forwards = vec![Forward::web(HostPort::Preferably(take_port()))];
    }),
];

/// A scenario on a machine with a port of the host that leads to the guest `web`.
const fn with_web(name: &'static str, play: fn(&mut Shell, &Stage) -> Result<()>) -> Scenario {
    Scenario::new(name, play).on(|machine| machine.forwards = [Forward::web(HostPort::Any)].into())
}

/// DHCP gives the first guest this address.
fn to_echo(protocol: Protocol) -> Forward {
    let address = Ipv4Addr::new(10, 0, 2, 32);
    Forward { protocol, host: HostPort::Any, address, port: 7 }
}

/// A port of the host that is in use as long as this program runs.
fn take_port() -> u16 {
    // Without a port there is no scenario.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the host has free ports");
    let port = listener.local_addr().expect("it was bound").port();
    std::mem::forget(listener);
    port
}

fn port_in_use(shell: &mut Shell, _: &Stage) -> Result<()> {
    let forwarded = *shell.session().ports().first().context("no port leads to the guest")?;
    let wish = forwarded.forward.host;
    ensure!(wish != HostPort::Preferably(forwarded.host_port), "it was in use: {forwarded}");
    shell.succeeds("xl create web")?;
    Client::connect(forwarded.host_port).map(drop)
}

/// The host's port that leads into the machine.
fn port(shell: &mut Shell, index: usize) -> Result<u16> {
    let forwarded = shell.session().ports().get(index).context("no port leads to the guest")?;
    Ok(forwarded.host_port)
}

fn fetch_from_host(shell: &mut Shell, _: &Stage) -> Result<()> {
    const BYTES: usize = 100_000_000;
    shell.succeeds("xl create web")?;
    let mut client = Client::connect(port(shell, 0)?)?;
    client.ask(BYTES)?;
    client.check(BYTES)
}

/// They are opened one after the other: QEMU's user network lets only one wait to be accepted, and
/// the host's kernel tries the others again ever more rarely.
fn thousand_connections(shell: &mut Shell, _: &Stage) -> Result<()> {
    const CONNECTIONS: usize = 1000;
    const BYTES: usize = 10_000;
    shell.succeeds("xl create web")?;
    let port = port(shell, 0)?;
    let mut clients = (0..CONNECTIONS)
        .map(|number| Client::connect(port).with_context(|| format!("connection {number}")))
        .collect::<Result<Vec<Client>>>()?;
    clients.iter_mut().try_for_each(|client| client.ask(BYTES))?;
    clients.iter_mut().try_for_each(|client| client.check(BYTES))
}

fn fetch_from_guest(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.succeeds("xl create web")?;
    // It answers, so it is there.
    Client::connect(port(shell, 0)?)?;
    let before = shell.free_frames()?;
    for bytes in [0, 1, 1_000_000, 50_000_000] {
        let output = shell.succeeds(&format!("xl create -c fetch cmdline=bytes={bytes}"))?;
        ensure!(output.contains(&format!("got {bytes} bytes")), "fetch printed: {output}");
        shell.wait_until_gone("fetch")?;
    }
    let after = shell.free_frames()?;
    ensure!(before == after, "{before} frames were free before, {after} are after");
    Ok(())
}

fn echo(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.succeeds("xl create echo")?;
    shell.session().begin("xl console echo")?;
    shell.session().wait_for_text("serving 10.0.2.32")?;
    shell.leave_console("xl console echo")?;
    let data: Vec<u8> = (0..1_000_000_u32).map(|number| (number >> 3) as u8).collect();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port(shell, 0)?))?;
    let mut writer = stream.try_clone()?;
    let sent = data.clone();
    let writing = thread::spawn(move || -> std::io::Result<()> {
        writer.write_all(&sent)?;
        writer.shutdown(Shutdown::Write)
    });
    let mut received = Vec::new();
    stream.read_to_end(&mut received)?;
    writing.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    ensure!(received == data, "{} bytes came back, or they are wrong", received.len());

    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect((Ipv4Addr::LOCALHOST, port(shell, 1)?))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    for length in [1, 100, 1472] {
        let mut buffer = [0; 2000];
        // Packets may be lost; a few tries are enough.
        let count = (0..10)
            .find_map(|_| {
                socket.send(&data[..length]).ok()?;
                socket.recv(&mut buffer).ok()
            })
            .with_context(|| format!("no packet of {length} bytes came back"))?;
        ensure!(buffer[..count] == data[..length], "{count} bytes for {length}");
    }
    Ok(())
}

fn ping(shell: &mut Shell, _: &Stage) -> Result<()> {
    for size in [0, 56, 1472] {
        let output = shell.succeeds(&format!("xl create -c ping cmdline='count=3 size={size}'"))?;
        ensure!(output.contains("10.0.2.1 answered 3 times"), "ping printed: {output}");
        shell.wait_until_gone("ping")?;
    }
    shell.fails("xl create -c ping cmdline=to=10.0.2.77", &["domain ping crashed"])?;
    ensure!(shell.transcript().contains("10.0.2.77: no answer"), "it did not say why");
    shell.wait_until_gone("ping")?;
    shell.fails("xl create ping vif=mac=fe:ff:ff:ff:ff:ff", &["in use by domain `dom0`"])
}

/// The machine counts instructions here, so that no other load changes the figure.
fn ping_cost(shell: &mut Shell, _: &Stage) -> Result<()> {
    const INSTRUCTIONS_MAX: u64 = 10_000;
    let command = "xl create -c ping cmdline='ip=10.0.2.16/24 count=20'";
    let output = shell.succeeds(command)?;
    let median = number_before(&output, "median,")?;
    ensure!(median <= INSTRUCTIONS_MAX, "a round trip takes {median} instructions");
    Ok(())
}

/// As for [`ping_cost`]. The counter is one of nanoseconds.
fn tcp_cost(shell: &mut Shell, _: &Stage) -> Result<()> {
    const BYTES: u64 = 50_000_000;
    const MBIT_MIN: u64 = 8_000;
    shell.succeeds("xl create web cmdline='ip=10.0.2.15/24 send=512'")?;
    let output = shell.succeeds(&format!("xl create -c fetch cmdline='bytes={BYTES} check=0'"))?;
    let mbit = BYTES * 8 / number_before(&output, "us")?;
    ensure!(mbit >= MBIT_MIN, "{mbit} Mbit in 10^9 instructions");
    Ok(())
}

fn number_before(output: &str, word: &str) -> Result<u64> {
    let words: Vec<&str> = output.split_whitespace().collect();
    let position = words.iter().position(|found| *found == word);
    let number = position.and_then(|position| words.get(position.checked_sub(1)?));
    let number = number.with_context(|| format!("no number before `{word}`: {output}"))?;
    Ok(number.parse()?)
}

fn rate(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.succeeds("xl create web vif=rate=1MB/s")?;
    let output = shell.succeeds("xl create -c fetch cmdline=bytes=2000000")?;
    let time = number_before(&output, "us")?;
    // However slow the host is, it cannot be faster than the rate; the first interval is free.
    ensure!(time > 1_900_000, "two seconds' bytes took {time} us");
    Ok(())
}

fn attach_and_detach(shell: &mut Shell, _: &Stage) -> Result<()> {
    let before = shell.free_frames()?;
    shell.succeeds("xl create web vif=[]")?;
    ensure!(!shell.succeeds("xl network-list web")?.contains("backend/vif"));
    shell.succeeds("xl network-attach web mac=00:16:3e:00:00:07")?;
    let mut client = Client::connect(port(shell, 0)?)?;
    let list = shell.succeeds("xl network-list web")?;
    let row = list.lines().find(|line| line.contains("00:16:3e:00:00:07")).context("not listed")?;
    ensure!(row.matches("Connected").count() == 2, "{list}");
    client.ask(100_000)?;
    client.check(100_000)?;
    shell.fails("xl network-attach hello mac=00:16:3e:00:00:07", &["hello"])?;
    shell.fails("xl network-attach web mac=00:16:3e:00:00:07", &["in use by domain `web`"])?;
    shell.fails("xl network-detach web 1", &["web", "no vif 1"])?;
    shell.succeeds("xl network-detach web 0")?;
    ensure!(!shell.succeeds("xl network-list web")?.contains("backend/vif"));
    shell.succeeds("xl destroy web")?;
    shell.wait_until_gone("web")?;
    let after = shell.free_frames()?;
    ensure!(before == after, "{before} frames were free before, {after} are after");
    Ok(())
}

/// The guest has its interface by `network-attach`, and loses it by `network-detach`. In between the
/// backend says that it goes, and comes back.
fn several_queues(shell: &mut Shell, _: &Stage) -> Result<()> {
    const BYTES: usize = 20_000_000;
    let before = shell.free_frames()?;
    shell.succeeds("xl create web vif=[] cmdline='ip=10.0.2.15/24 queues=2'")?;
    shell.succeeds("xl network-attach web")?;
    let mut client = Client::connect(port(shell, 0)?)?;
    for (wanted, got) in [(2, 2), (9, 8)] {
        let arguments = format!("bytes=1000000 connections=8 queues={wanted}");
        let output = shell.succeeds(&format!("xl create -c fetch cmdline='{arguments}'"))?;
        ensure!(output.contains("got 8000000 bytes"), "fetch printed: {output}");
        let queues = queues(&output)?;
        ensure!(queues.len() == got, "{wanted} of 8 queues: {output}");
        let used = queues.iter().filter(|(sent, received)| *sent > 0 && *received > 0);
        ensure!(used.count() >= 2, "not two queues were used: {output}");
        shell.wait_until_gone("fetch")?;
    }
    let used = queues(&client.text("/counters")?)?;
    ensure!(used.len() == 2 && used.iter().all(|&(sent, received)| sent > 0 && received > 0));

    let domain = shell.succeeds("xl domid web")?;
    let state = format!("/local/domain/0/backend/vif/{}/0/state", domain.trim());
    shell.succeeds(&format!("xenstore-write {state} 5"))?;
    wait_until_connected(shell, "web")?;
    // To the connection it is as if a cable had been pulled.
    client.ask(BYTES)?;
    client.check(BYTES)?;
    let counters = client.text("/counters")?;
    ensure!(queues(&counters)?.len() == 2, "it came back with other queues: {counters}");

    shell.succeeds("xl network-detach web 0")?;
    shell.succeeds("xl destroy web")?;
    shell.wait_until_gone("web")?;
    let after = shell.free_frames()?;
    ensure!(before == after, "{before} frames were free before, {after} are after");
    shell.fails("xl create -c fetch cmdline=queues=0", &["domain fetch crashed"])?;
    ensure!(shell.transcript().contains("queues=0 is not a number"), "it did not say why");
    shell.wait_until_gone("fetch")
}

fn wait_until_connected(shell: &mut Shell, domain: &str) -> Result<()> {
    for _ in 0..600 {
        let list = shell.succeeds(&format!("xl network-list {domain}"))?;
        if list.matches("Connected").count() == 2 {
            return Ok(());
        }
        shell.session().wait(Duration::from_millis(50))?;
    }
    bail!("the interface of {domain} stays down")
}

/// The slots that each queue has sent and received, as a guest tells them.
fn queues(output: &str) -> Result<Vec<(u64, u64)>> {
    let lines = output.lines().filter(|line| line.contains("queue "));
    let numbers = lines.map(|line| {
        let (_, received) = line.rsplit_once(' ').context("an empty line")?;
        Ok((number_before(line, "slots,")?, received.parse()?))
    });
    numbers.collect()
}

fn churn(shell: &mut Shell, _: &Stage) -> Result<()> {
    const CYCLES: u32 = 10;
    let port = port(shell, 0)?;
    // Frames that dom0 has for good from the first traffic on are not lost.
    shell.succeeds("xl create web")?;
    Client::connect(port)?;
    shell.succeeds("xl destroy web")?;
    shell.wait_until_gone("web")?;
    let before = shell.free_frames()?;
    let nodes = shell.succeeds("xenstore-ls /local/domain")?;
    for cycle in 0..CYCLES {
        shell.succeeds("xl create web")?;
        Client::connect(port)?;
        let done = Arc::new(AtomicBool::new(false));
        let traffic = start_traffic(port, done.clone());
        shell.succeeds("xl create fetch cmdline=bytes=1000000000")?;
        shell.session().wait(Duration::from_millis(100 + u64::from(cycle) * 30))?;
        let order = if cycle % 2 == 0 { ["web", "fetch"] } else { ["fetch", "web"] };
        for name in order {
            // Whoever has noticed that the other is gone ends by itself.
            let _ = shell.succeeds(&format!("xl destroy {name}"));
            shell.wait_until_gone(name)?;
        }
        done.store(true, Ordering::Relaxed);
        // Its connection broke, which is what was wanted.
        let _ = traffic.join();
        let after = shell.free_frames()?;
        ensure!(before == after, "{before} frames were free before, {after} are after");
    }
    let after = shell.succeeds("xenstore-ls /local/domain")?;
    ensure!(nodes == after, "the store had {nodes} before and has {after} after");
    // The network is as good as before.
    shell.succeeds("xl create web")?;
    let mut client = Client::connect(port)?;
    client.ask(1_000_000)?;
    client.check(1_000_000)
}

/// Fetches from the guest until it is gone.
fn start_traffic(port: u16, done: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return };
        let request = "GET /bytes?n=1000000000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let ready = stream.set_read_timeout(Some(Duration::from_millis(100)));
        if ready.and_then(|()| stream.write_all(request.as_bytes())).is_err() {
            return;
        }
        let mut buffer = vec![0; 1 << 16];
        while !done.load(Ordering::Relaxed) {
            if let Ok(0) = stream.read(&mut buffer) {
                return;
            }
        }
    })
}

fn bad_interfaces(shell: &mut Shell, _: &Stage) -> Result<()> {
    for (vif, word) in [
        ("mac=1:2:3", "hardware address"),
        ("mac=ff:ff:ff:ff:ff:ff", "one station"),
        ("rate=fast", "10Mb/s"),
        ("bridge=br7", "xenbr0"),
        ("colour=red", "colour"),
    ] {
        shell.fails(&format!("xl create web vif={vif}"), &["vif", word])?;
    }
    shell.succeeds("xl create web vif=mac=00:16:3e:00:00:01")?;
    shell.fails("xl create fetch vif=mac=00:16:3e:00:00:01", &["00:16:3e:00:00:01", "web"])?;
    shell.fails("xl network-list nobody", &["nobody"])
}

fn hostile(shell: &mut Shell, _: &Stage) -> Result<()> {
    shell.succeeds("xl create web")?;
    let mut client = Client::connect(port(shell, 0)?)?;
    let before = shell.free_frames()?;
    let vifs = r#"vif=["","","","","","",""]"#;
    let create = format!("xl create -c hello name=hostile kernel=hostile '{vifs}'");
    let output = shell.succeeds(&create)?;
    let lines: Vec<&str> = output.lines().filter(|line| line.contains(" net: ")).collect();
    ensure!(lines.len() == 9, "{} attempts were made: {output}", lines.len());
    ensure!(lines.iter().all(|line| line.contains("ok ")), "not all were refused: {lines:?}");
    shell.wait_until_gone("hostile")?;
    ensure!(shell.transcript().matches("breaks the protocol").count() >= 6, "no word of it");
    let after = shell.free_frames()?;
    ensure!(before == after, "{before} frames were free before, {after} are after");
    client.ask(1_000_000)?;
    client.check(1_000_000)
}
