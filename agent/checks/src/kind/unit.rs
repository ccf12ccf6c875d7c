//! A unit of systemd, by D-Bus. It is looked at and never changed; that is the executor's.
//!
//! Source: org.freedesktop.systemd1(5).

use zbus::proxy::CacheProperties;
use zbus::zvariant::OwnedObjectPath;
use zbus::{Connection, Proxy, proxy};

use super::Fault;

const SYSTEMD: &str = "org.freedesktop.systemd1";

pub(super) async fn ask(name: &str, states: &[String]) -> Result<(), Fault> {
    let bus = Connection::system().await.map_err(Fault::Systemd)?;
    let found = state(&bus, name).await.map_err(Fault::Systemd)?;
    if states.contains(&found.active) {
        return Ok(());
    }
    let State { active, sub, result, loaded } = found;
    if loaded != "loaded" {
        return Err(Fault::Unit { found: loaded });
    }
    let result = result.filter(|result| result != "success").map(|result| format!(", result {result}"));
    Err(Fault::Unit { found: format!("{active} ({sub}{})", result.unwrap_or_default()) })
}

struct State {
    active: String,
    sub: String,
    result: Option<String>,
    loaded: String,
}

async fn state(bus: &Connection, name: &str) -> zbus::Result<State> {
    let manager = Proxy::new(bus, SYSTEMD, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager").await?;
    // As GetUnit, and it knows of units that never ran, too.
    let path: OwnedObjectPath = manager.call("LoadUnit", &(name,)).await?;
    let unit = of(bus, &path, "org.freedesktop.systemd1.Unit").await?;
    let mut state = State {
        active: unit.get_property("ActiveState").await?,
        sub: unit.get_property("SubState").await?,
        result: None,
        loaded: unit.get_property("LoadState").await?,
    };
    if name.ends_with(".service") {
        let service = of(bus, &path, "org.freedesktop.systemd1.Service").await?;
        state.result = service.get_property("Result").await.ok();
    }
    Ok(state)
}

async fn of<'a>(bus: &'a Connection, path: &'a OwnedObjectPath, interface: &'static str) -> zbus::Result<Proxy<'a>> {
    let builder = proxy::Builder::new(bus).destination(SYSTEMD)?.path(path)?.interface(interface)?;
    builder.cache_properties(CacheProperties::No).build().await
}
