//! An object store for tests: a server process of its own, on the loopback interface.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::python;

/// A running S3 stand-in with the bucket `skep`. Ends when dropped.
pub struct Bucket {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    port: u16,
}

impl Bucket {
    pub fn start() -> Self {
        let mut child = Command::new(python())
            .args(["-c", include_str!("bucket_server.py")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let orders = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut port = String::new();
        answers.read_line(&mut port).unwrap();
        let port = port.trim().parse().expect("the server says its port; is moto there? run `cargo xtask setup`");
        Self { child, orders, answers, port }
    }

    /// What programs need to find it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }

    /// `down`, `slow MS` or `off`; returns when it is so.
    pub fn trouble(&mut self, kind: &str) {
        writeln!(self.orders.as_mut().unwrap(), "{kind}").unwrap();
        self.answers.read_line(&mut String::new()).unwrap();
    }

    /// What a Python script prints that is given `argument`.
    pub fn python(&self, script: &str, argument: &str) -> String {
        let output = Command::new(python()).args(["-c", script, argument]).envs(self.environment()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Keys in the bucket that begin with this.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let script = "import boto3, os, sys\n\
            s3 = boto3.client('s3', endpoint_url=os.environ['AWS_ENDPOINT_URL'])\n\
            pages = s3.get_paginator('list_objects_v2').paginate(Bucket='skep', Prefix=sys.argv[1])\n\
            print('\\n'.join(found['Key'] for page in pages for found in page.get('Contents', [])))";
        self.python(script, prefix).lines().map(str::to_owned).collect()
    }

    /// Removes an object.
    pub fn remove(&self, key: &str) {
        let script = "import boto3, os, sys\n\
            boto3.client('s3', endpoint_url=os.environ['AWS_ENDPOINT_URL']).delete_object(Bucket='skep', Key=sys.argv[1])";
        self.python(script, key);
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        drop(self.orders.take());
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
