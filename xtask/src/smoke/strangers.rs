//! Builds a stranger's Makefiles in the real root with compilers, and checks what they could reach.
//! Everything that can be checked without compilers is in `vm-images/tests/enclosure.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use harness::session::Session;
use vm_images::spec::{KernelSpec, Overlay};

use super::Scratch;

/// Lines put at the top of `drivers/md/Makefile`: each prints a word if its attempt succeeded. `SECRET` is a
/// file of the host's, `PID` a process of the host.
const TRIES: &str = "\
could := $(shell \
    (echo x >>/usr/include/stdio.h) 2>/dev/null && echo write-to-the-root; \
    (echo x >/usr/include/new.h) 2>/dev/null && echo add-to-the-root; \
    mv /usr/bin/true /mnt/true 2>/dev/null && echo take-from-the-root; \
    mknod /mnt/sda b 8 0 2>/dev/null && echo make-a-disk; \
    mount -o remount,rw / 2>/dev/null && echo remount; \
    test -e SECRET && echo see-the-host; \
    ls /dev | grep -vxE 'null|zero|full|random|urandom|tty'; \
    kill -0 PID 2>/dev/null && echo signal-the-host; \
    bash -c 'exec 3<>/dev/tcp/127.0.0.1/PORT' 2>/dev/null && echo reach-the-network; \
    test \"$$(id -u)\" = 0 && echo be-root)
$(if $(strip $(could)),$(error a build could $(could)))
";

pub(super) fn builds_are_enclosed(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let apt = session.apt()?;
    let images = session.images(&apt)?;
    let source = images.kernel_source(&images.kernel(&"deb:6.12".parse()?)?)?.path("tree");
    let tree = out.0.join("linux");
    let log = out.0.join("log");
    fs::create_dir(&tree)?;
    session
        .host
        .call("cp")
        .arg("-r")
        .args([source.join("Makefile"), source.join("drivers")])
        .arg(&tree)
        .run(&log)?;
    let secret = out.0.join("secret");
    fs::write(&secret, "of the host")?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let tries = TRIES
        .replace("SECRET", &secret.to_string_lossy())
        .replace("PID", &std::process::id().to_string())
        .replace("PORT", &listener.local_addr()?.port().to_string());
    let makefile = tree.join("drivers/md/Makefile");
    // A new text each time, or there would be nothing to build the second time.
    let text = fs::read_to_string(&makefile)?;
    fs::write(&makefile, format!("{tries}# {}\n{text}", secret.display()))?;
    // From now on the roots exist.
    images.kernel(&"deb:6.12+plant:none".parse()?)?;
    let before = roots(session)?;
    ensure!(!before.is_empty(), "there is no root that modules are built in");
    let spec = KernelSpec::overlaid("deb:6.12".parse()?, Overlay::Tree(tree));
    images.kernel(&spec).context("a build that only tries fails")?;
    ensure!(roots(session)? == before, "a build changed a root");
    // A counter-check: a successful attempt would be reported, as an error of the build.
    let text = fs::read_to_string(&makefile)?;
    fs::write(&makefile, text.replace("test -e ", "test ! -e "))?;
    let error = images.kernel(&spec).err().context("a try that succeeded was not told")?.to_string();
    ensure!(error.contains("a build could see-the-host"), "another error was told: {error}");
    Ok(())
}

/// State of each root that things are built in: size and time of some files, names in a folder.
fn roots(session: &Session) -> Result<BTreeMap<PathBuf, String>> {
    let mut all = BTreeMap::new();
    for kind in ["kbuild", "headers"] {
        for entry in fs::read_dir(session.store.root().join(kind))? {
            let root = entry?.path().join("root");
            for name in ["usr/include/stdio.h", "usr/bin", "usr/include", "usr/bin/true", "mnt", ""] {
                let path = root.join(name);
                let data = fs::symlink_metadata(&path)
                    .with_context(|| format!("failed to look at `{}`", path.display()))?;
                all.insert(path, format!("{} {:?} {:?}", data.len(), data.modified()?, data.permissions()));
            }
        }
    }
    Ok(all)
}
