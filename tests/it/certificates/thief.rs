//! An ssh-agent that offers one key and signs with another: how somebody presents a certificate without the
//! key that it certifies. Stock ssh sends whatever signature an agent makes.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use signature::Signer as _;
use ssh_encoding::Encode as _;
use ssh_key::{PrivateKey, Signature};

use crate::support::wire::string;

/// Listens until the test ends.
pub(super) fn start(socket: &Path, offered: Vec<u8>, used: &Path) -> PathBuf {
    let listener = UnixListener::bind(socket).expect("a socket");
    let key = PrivateKey::read_openssh_file(used).expect("a private key");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // ssh hangs up when it has what it wants.
            let _ = serve(stream, &offered, &key);
        }
    });
    socket.to_owned()
}

/// draft-miller-ssh-agent, section 3: each message is a string whose first byte is its kind.
fn serve(mut stream: UnixStream, offered: &[u8], key: &PrivateKey) -> std::io::Result<()> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut message = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut message)?;
        let answer = match message.first() {
            // SSH_AGENTC_REQUEST_IDENTITIES: one key, without a comment.
            Some(11) => [&[12, 0, 0, 0, 1], &string(offered)[..], &string("")].concat(),
            // SSH_AGENTC_SIGN_REQUEST: string key, string data, uint32 flags.
            Some(13) => [vec![14], string(sign(key, &message[1..]))].concat(),
            _ => vec![5],
        };
        stream.write_all(&string(answer))?;
    }
}

fn sign(key: &PrivateKey, request: &[u8]) -> Vec<u8> {
    let part = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().expect("four bytes")) as usize;
    let data = &request[4 + part(request)..];
    let data = &data[4..4 + part(data)];
    let signature: Signature = key.try_sign(data).expect("a signature");
    signature.encode_vec().expect("a signature's wire form")
}
