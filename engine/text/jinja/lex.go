package jinja

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// kind is a kind of token.
type kind uint8

const (
	tokenEnd        kind = iota
	tokenText            // outside of tags
	tokenBegin           // {%
	tokenClose           // %}
	tokenPrint           // {{
	tokenPrintClose      // }}
	tokenName
	tokenString
	tokenInt
	tokenFloat
	tokenOperator
)

type token struct {
	kind kind
	text string // a string's value
	line int
}

func (t token) String() string {
	switch t.kind {
	case tokenEnd:
		return "the end of the template"
	case tokenText:
		return "text"
	}
	return strconv.Quote(t.text)
}

// operators, the longer before their beginnings.
var operators = []string{"**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<", ">", "=", "(", ")", "[", "]", "{", "}", ",", ".", ":", "|"}

// lexer cuts a template into tokens.
type lexer struct {
	s         string
	pos, line int
	lineStart bool // what was read last ended a line
	tokens    []token
}

func lex(source string) ([]token, error) {
	source = strings.ReplaceAll(strings.ReplaceAll(source, "\r\n", "\n"), "\r", "\n")
	l := &lexer{s: strings.TrimSuffix(source, "\n"), line: 1, lineStart: true}
	for l.pos < len(l.s) {
		if err := l.part(); err != nil {
			return nil, err
		}
	}
	l.add(tokenEnd, "")
	return l.tokens, nil
}

func (l *lexer) add(k kind, text string) {
	l.tokens = append(l.tokens, token{k, text, l.line})
}

// skip moves over n bytes.
func (l *lexer) skip(n int) {
	l.line += strings.Count(l.s[l.pos:l.pos+n], "\n")
	l.pos += n
}

// part reads text up to the next tag, and that tag.
func (l *lexer) part() error {
	rest := l.s[l.pos:]
	open := nextTag(rest)
	if open < 0 {
		l.add(tokenText, rest)
		l.skip(len(rest))
		return nil
	}
	text, tag := rest[:open], rest[open:open+2]
	mark := byte(0)
	if open+2 < len(rest) {
		mark = rest[open+2]
	}
	l.text(text, tag, mark)
	l.skip(open + 2)
	if mark == '-' || mark == '+' {
		l.skip(1)
	}
	switch tag {
	case "{#":
		return l.comment()
	case "{{":
		l.add(tokenPrint, tag)
		return l.inside("}}", tokenPrintClose)
	}
	if n := rawTag(l.s[l.pos:], "raw"); n > 0 {
		return l.raw(n)
	}
	l.add(tokenBegin, tag)
	return l.inside("%}", tokenClose)
}

// text adds the text before a tag, without the white space that the tag takes: all
// with a minus; that of its line, if it begins the line and does not print.
func (l *lexer) text(text, tag string, mark byte) {
	switch {
	case mark == '-':
		text = strings.TrimRight(text, " \t\n\v\f")
	case tag != "{{" && mark != '+':
		start := strings.LastIndexByte(text, '\n') + 1
		if (start > 0 || l.lineStart) && strings.Trim(text[start:], " \t\v\f") == "" {
			text = text[:start]
		}
	}
	if text != "" {
		l.add(tokenText, text)
	}
}

func nextTag(s string) int {
	for at := 0; ; {
		i := strings.IndexByte(s[at:], '{')
		if i < 0 || at+i+1 >= len(s) {
			return -1
		}
		at += i
		if c := s[at+1]; c == '{' || c == '%' || c == '#' {
			return at
		}
		at++
	}
}

func (l *lexer) comment() error {
	end := strings.Index(l.s[l.pos:], "#}")
	if end < 0 {
		return at(l.line, ErrSyntax, "the comment has no #}")
	}
	minus := end > 0 && l.s[l.pos+end-1] == '-'
	l.skip(end + 2)
	l.after(minus, true)
	return nil
}

// after takes the white space that a tag takes behind it.
func (l *lexer) after(minus, block bool) {
	rest := l.s[l.pos:]
	n := 0
	switch {
	case minus:
		n = len(rest) - len(strings.TrimLeft(rest, " \t\n\v\f"))
	case block && strings.HasPrefix(rest, "\n"):
		n = 1
	}
	l.lineStart = n > 0 && rest[n-1] == '\n'
	l.skip(n)
}

// rawTag returns the length of what is left of a tag {% name %}, 0 if s is none.
func rawTag(s, name string) int {
	t := strings.TrimLeft(s, " \t\n")
	if !strings.HasPrefix(t, name) {
		return 0
	}
	t = strings.TrimLeft(t[len(name):], " \t\n")
	t = strings.TrimPrefix(t, "-")
	if !strings.HasPrefix(t, "%}") {
		return 0
	}
	return len(s) - len(t) + 2
}

// raw reads up to {% endraw %}.
func (l *lexer) raw(n int) error {
	l.skip(n)
	l.after(l.s[l.pos-3] == '-', true)
	for from := l.pos; ; {
		i := strings.Index(l.s[from:], "{%")
		if i < 0 {
			return at(l.line, ErrSyntax, "raw has no endraw")
		}
		from += i + 2
		tag := strings.TrimLeft(l.s[from:], "-+")
		marks := len(l.s) - from - len(tag)
		if n := rawTag(tag, "endraw"); n > 0 {
			text := l.s[l.pos : from-2]
			mark := byte(0)
			if marks > 0 {
				mark = l.s[from]
			}
			l.text(text, "{%", mark)
			l.skip(from - l.pos + marks + n)
			l.after(l.s[l.pos-3] == '-', true)
			return nil
		}
	}
}

// inside reads the tokens of a tag and its end.
func (l *lexer) inside(end string, close kind) error {
	braces := 0
	for {
		rest := l.s[l.pos:]
		trimmed := strings.TrimLeft(rest, " \t\n\v\f")
		l.skip(len(rest) - len(trimmed))
		rest = trimmed
		if rest == "" {
			return at(l.line, ErrSyntax, "the tag has no %s", end)
		}
		if braces == 0 {
			for _, mark := range []string{"-", "+", ""} {
				if strings.HasPrefix(rest, mark+end) {
					l.skip(len(mark + end))
					l.add(close, end)
					l.after(mark == "-", close == tokenClose && mark != "+")
					return nil
				}
			}
		}
		if err := l.token(rest, &braces); err != nil {
			return err
		}
	}
}

func (l *lexer) token(rest string, braces *int) error {
	c := rest[0]
	switch {
	case c == '\'' || c == '"':
		return l.string(rest)
	case isDigit(c):
		l.number(rest)
		return nil
	case isLetter(c):
		n := 1
		for n < len(rest) && (isLetter(rest[n]) || isDigit(rest[n])) {
			n++
		}
		l.add(tokenName, rest[:n])
		l.skip(n)
		return nil
	}
	for _, op := range operators {
		if strings.HasPrefix(rest, op) {
			switch op {
			case "{", "[", "(":
				*braces++
			case "}", "]", ")":
				*braces--
			}
			l.add(tokenOperator, op)
			l.skip(len(op))
			return nil
		}
	}
	r, _ := utf8.DecodeRuneInString(rest)
	return at(l.line, ErrSyntax, "%q is not expected", r)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' }

func (l *lexer) number(rest string) {
	digits := func(n int) int {
		for n < len(rest) && (isDigit(rest[n]) || rest[n] == '_' && n > 0) {
			n++
		}
		return n
	}
	n, k := digits(0), tokenInt
	if n+1 < len(rest) && rest[n] == '.' && isDigit(rest[n+1]) {
		n, k = digits(n+1), tokenFloat
	}
	if n+1 < len(rest) && (rest[n] == 'e' || rest[n] == 'E') {
		m := n + 1
		if (rest[m] == '-' || rest[m] == '+') && m+1 < len(rest) {
			m++
		}
		if isDigit(rest[m]) {
			n, k = digits(m), tokenFloat
		}
	}
	l.add(k, strings.ReplaceAll(rest[:n], "_", ""))
	l.skip(n)
}

// string reads a quoted string with the escapes of Python.
func (l *lexer) string(rest string) error {
	var b strings.Builder
	for i := 1; i < len(rest); {
		c := rest[i]
		if c == rest[0] {
			l.add(tokenString, b.String())
			l.skip(i + 1)
			return nil
		}
		if c != '\\' || i+1 >= len(rest) {
			b.WriteByte(c)
			i++
			continue
		}
		n := escape(&b, rest[i:])
		i += n
	}
	return at(l.line, ErrSyntax, "the string has no end")
}

var escapes = map[byte]string{'n': "\n", 't': "\t", 'r': "\r", 'a': "\a", 'b': "\b", 'f': "\f", 'v': "\v", '\\': "\\", '\'': "'", '"': "\"", '\n': ""}

// escape writes what the escape at the start of s stands for and returns its length.
func escape(b *strings.Builder, s string) int {
	if plain, ok := escapes[s[1]]; ok {
		b.WriteString(plain)
		return 2
	}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[1]]
	if digits > 0 && len(s) >= 2+digits {
		if v, err := strconv.ParseUint(s[2:2+digits], 16, 32); err == nil && v <= utf8.MaxRune {
			b.WriteRune(rune(v))
			return 2 + digits
		}
	}
	b.WriteByte('\\')
	return 1
}
