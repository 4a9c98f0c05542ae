//! Options of overlay file systems, as mountinfo shows them.

/// A directory that an overlay reads only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its path.
    pub path: Vec<u8>,
    /// It holds contents only, which other layers point to.
    pub data_only: bool,
}

/// The layers of a value of `lowerdir`: they are separated by colons, those with contents only by two.
#[must_use]
pub fn layers(value: &str) -> Vec<Layer> {
    let mut found = vec![Layer { path: Vec::new(), data_only: false }];
    let mut bytes = value.bytes().peekable();
    while let Some(byte) = bytes.next() {
        let last = found.len() - 1;
        match byte {
            b'\\' => found[last].path.extend(bytes.next()),
            b':' => {
                let data_only = bytes.next_if_eq(&b':').is_some();
                found.push(Layer { path: Vec::new(), data_only });
            }
            byte => found[last].path.push(byte),
        }
    }
    found
}

/// All directories that an overlay is made of.
#[must_use]
pub fn directories(options: &str) -> Vec<Vec<u8>> {
    let pairs = options.split(',').filter_map(|option| option.split_once('='));
    let of = |(key, value): (&str, &str)| match key {
        "lowerdir" => layers(value).into_iter().map(|layer| layer.path).collect(),
        "lowerdir+" | "datadir+" => vec![value.as_bytes().to_vec()],
        "upperdir" | "workdir" => layers(value).into_iter().take(1).map(|layer| layer.path).collect(),
        _ => Vec::new(),
    };
    pairs.flat_map(of).collect()
}

/// The directory that an overlay writes to, if there is one.
#[must_use]
pub fn upper(options: &str) -> Option<Vec<u8>> {
    let value = options.split(',').find_map(|option| option.strip_prefix("upperdir="))?;
    layers(value).into_iter().next().map(|layer| layer.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_an_overlay() {
        let options = "rw,lowerdir=/a\\:b:/c::/d,upperdir=/u,workdir=/w,lowerdir+=/e,index=off";
        let found = directories(options);
        assert_eq!(found, [&b"/a:b"[..], b"/c", b"/d", b"/u", b"/w", b"/e"]);
        assert_eq!(upper(options).unwrap(), b"/u");
        let data: Vec<_> = layers("/a\\:b:/c::/d").iter().map(|layer| layer.data_only).collect();
        assert_eq!(data, [false, false, true]);
    }
}
