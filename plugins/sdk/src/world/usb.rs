//! Serial adapters by what they are, whatever number the system gave them this time.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// An adapter on USB: `usb:VENDOR:PRODUCT` or `usb:VENDOR:PRODUCT:SERIAL`, as `lsusb` and
/// `/dev/serial/by-id` have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsbId {
    vendor: u16,
    product: u16,
    serial: Option<String>,
}

impl UsbId {
    /// Reads one; None when it is something else, such as the path of a device.
    pub fn parse(text: &str) -> Option<UsbId> {
        let mut parts = text.strip_prefix("usb:")?.splitn(3, ':');
        let mut number = || parts.next().filter(|digits| digits.len() == 4);
        let (vendor, product) = (number()?, number()?);
        let number = |digits: &str| u16::from_str_radix(digits, 16).ok();
        let serial = parts.next().map(str::to_owned);
        let is_empty = serial.as_ref().is_some_and(String::is_empty);
        let id = UsbId { vendor: number(vendor)?, product: number(product)?, serial };
        (!is_empty).then_some(id)
    }

    /// The device that it is now. `system` is where sysfs is mounted, `/sys`.
    ///
    /// # Errors
    ///
    /// None, or several, are plugged in.
    pub fn device(&self, system: &Path) -> io::Result<PathBuf> {
        let mut found: Vec<String> = fs::read_dir(system.join("class/tty"))?
            .flatten()
            .filter(|entry| self.is_at(&entry.path()))
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        found.sort();
        match &found[..] {
            [] => Err(io::Error::new(io::ErrorKind::NotFound, "no such adapter is plugged in")),
            [name] => Ok(Path::new("/dev").join(name)),
            several => {
                let names = several.join(" and ");
                let why = format!(
                    "{names} are such adapters: add the serial number of one, as in `usb:0403:6001:A50285BI`"
                );
                Err(io::Error::other(why))
            }
        }
    }

    /// Whether a terminal of sysfs is on it.
    fn is_at(&self, terminal: &Path) -> bool {
        // The interface, and above it the device that has the numbers.
        let Ok(device) = terminal.join("device").canonicalize() else { return false };
        let Some(device) = device.ancestors().find(|folder| folder.join("idVendor").exists())
        else {
            return false;
        };
        let text = |name: &str| fs::read_to_string(device.join(name)).unwrap_or_default();
        let number = |name: &str| u16::from_str_radix(text(name).trim(), 16).ok();
        number("idVendor") == Some(self.vendor)
            && number("idProduct") == Some(self.product)
            && self.serial.as_ref().is_none_or(|serial| text("serial").trim() == serial)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// As Linux lays it out: the terminal's `device` leads to an interface below the device.
    fn plug_in(system: &Path, terminal: &str, port: &str, id: [&str; 3]) {
        let device = system.join("devices").join(port);
        let interface = device.join("1-1:1.0").join(terminal);
        fs::create_dir_all(&interface).unwrap();
        for (name, text) in ["idVendor", "idProduct", "serial"].into_iter().zip(id) {
            fs::write(device.join(name), format!("{text}\n")).unwrap();
        }
        let entry = system.join("class/tty").join(terminal);
        fs::create_dir_all(&entry).unwrap();
        symlink(interface, entry.join("device")).unwrap();
    }

    #[test]
    fn an_adapter_that_came_back_under_another_number_is_found() {
        let system = tempfile::tempdir().unwrap();
        fs::create_dir_all(system.path().join("class/tty/tty0")).unwrap();
        plug_in(system.path(), "ttyUSB1", "1-1", ["0403", "6001", "A50285BI"]);
        plug_in(system.path(), "ttyACM0", "1-2", ["1a86", "55d3", "5"]);
        let device = |text: &str| UsbId::parse(text).unwrap().device(system.path());
        assert_eq!(device("usb:0403:6001").unwrap(), Path::new("/dev/ttyUSB1"));
        assert_eq!(device("usb:1A86:55D3:5").unwrap(), Path::new("/dev/ttyACM0"));
        let missing = device("usb:0403:6001:B").unwrap_err();
        assert_eq!(missing.to_string(), "no such adapter is plugged in");
        plug_in(system.path(), "ttyUSB7", "1-3", ["0403", "6001", "B"]);
        assert_eq!(device("usb:0403:6001:B").unwrap(), Path::new("/dev/ttyUSB7"));
        let two = device("usb:0403:6001").unwrap_err();
        assert!(two.to_string().starts_with("ttyUSB1 and ttyUSB7 are such adapters"), "{two}");
    }

    #[test]
    fn what_names_no_adapter_is_none() {
        for text in
            ["/dev/ttyUSB0", "usb:", "usb:403:6001", "usb:0403", "usb:0403:60g1", "usb:0403:6001:"]
        {
            assert_eq!(UsbId::parse(text), None, "{text}");
        }
    }
}
