//! The zone that a client says it runs in, so that it is sent to gateways of its zone and pays for no traffic between zones.
//!
//! There is no field for it where clients ask for metadata, so they say it in `client.id`, in one of the ways that other
//! leaderless brokers have taught them: pairs `key=value` between other words, separated by `,`, `;`, `&` or a space.
//!
//! ```text
//! warpstream_az=use1-az1,orders        ws_az=use1-az1,orders
//! orders,diskless_az=use1-az1          orders,inkless_az=use1-az1
//! automq_type=producer&automq_az=use1-az1
//! orders;zone=use1-az1
//! ```

/// Keys whose value is a zone.
const KEYS: [&str; 6] = ["warpstream_az", "ws_az", "diskless_az", "inkless_az", "automq_az", "zone"];

/// The zone that a `client.id` names; the first one if it names several. `None` if it names none.
pub fn of_client_id(client_id: &str) -> Option<&str> {
    let pairs = client_id.split([',', ';', '&', ' ']).filter_map(|word| word.split_once('='));
    let mut zones = pairs.filter(|(key, zone)| KEYS.contains(key) && !zone.is_empty());
    zones.next().map(|(_, zone)| zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_is_understood() {
        for id in [
            "warpstream_az=a",
            "warpstream_az=a,orders",
            "ws_az=a,ws_pas=single_agent,orders-1",
            "warpstream_proxy_target=proxy-produce,ws_az=a",
            "orders,diskless_az=a",
            "orders, diskless_az=a more",
            "orders diskless_az=a",
            "inkless_az=a",
            "automq_type=consumer&automq_role=worker&automq_az=a&connect-1",
            "automq_az=a",
            "zone=a",
            "orders;zone=a",
            "zone=a;zone=b",
        ] {
            assert_eq!(of_client_id(id), Some("a"), "{id}");
        }
    }

    #[test]
    fn other_names_say_nothing() {
        for id in ["", "orders", "zone", "zone=", "myzone=a", "a=b,c=d", "warpstream_az", "=a", "ZONE=a", "timezone=a"]
        {
            assert_eq!(of_client_id(id), None, "{id}");
        }
    }
}
