package data

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"tare/engine/text"
)

// Record is a piece of text to learn from: either Text, or a Prompt that is given
// and a Completion that is learnt.
type Record struct {
	Text, Prompt, Completion string
	Label                    string // of Text, where the file has one
	Rendered                 bool   // special tokens are in the text already, as a chat template puts them
}

// Preference is a prompt with an answer that was preferred to another.
type Preference struct {
	Prompt, Chosen, Rejected string
	Rendered                 bool // as in Record
}

// Reader reads files of records.
type Reader struct {
	// Chat writes conversations as text; nil writes "Role: content", a line each.
	Chat *text.Chat
}

// ReadRecords reads a file of records, by its extension: .jsonl and .ndjson (an
// object a line), .json (a list of objects), .csv and .tsv (a head line names the
// columns), .parquet, and .txt, which is one record. The records have one of these
// shapes; further keys are ignored:
//
//	{"text", "label"?}                  Text and Label
//	{"prompt", "completion"}            as they are
//	{"prompt"?, "chosen", "rejected"?}  the answer that was preferred is learnt
//	{"question", "answer"}              question and a line break; answer
//	{"instruction", "input"?, "output"} the first two, a line each; output
//	{"messages": [{"role", "content"}]} the conversation up to the assistant's last
//	                                    message; this message
func ReadRecords(path string) ([]Record, error) { return Reader{}.Records(path) }

// ReadPreferences reads the records of a file that ReadRecords knows as pairs of
// answers: {"prompt"?, "chosen", "rejected"}, each a text or a list of messages.
// Without a prompt it is what the answers begin with alike.
func ReadPreferences(path string) ([]Preference, error) { return Reader{}.Preferences(path) }

// objectReader calls each for the objects in a file of size bytes.
type objectReader func(from io.Reader, size int64, each func(object) error) error

// objectReaders by extension.
var objectReaders = map[string]objectReader{
	".jsonl": readJSONL, ".ndjson": readJSONL, ".json": readJSON, ".parquet": readParquet,
	".csv": func(from io.Reader, _ int64, each func(object) error) error { return readCSV(from, ',', each) },
	".tsv": func(from io.Reader, _ int64, each func(object) error) error { return readCSV(from, '\t', each) },
}

// HasRecords says whether ReadRecords knows the extension of a path as one of
// records, which plain text is not.
func HasRecords(path string) bool { return objectReaders[strings.ToLower(filepath.Ext(path))] != nil }

// Records is ReadRecords.
func (r Reader) Records(path string) ([]Record, error) {
	if strings.EqualFold(filepath.Ext(path), ".txt") {
		s, err := ReadText(path)
		if err != nil {
			return nil, err
		}
		return []Record{{Text: s}}, nil
	}
	read, err := readerOf(path)
	if err != nil {
		return nil, err
	}
	return r.readFile(path, read)
}

func readerOf(path string) (objectReader, error) {
	ext := strings.ToLower(filepath.Ext(path))
	if read := objectReaders[ext]; read != nil {
		return read, nil
	}
	return nil, fmt.Errorf("data: %s: the extension %q is not known (known: %s, .txt): %w", path, ext, strings.Join(slices.Sorted(maps.Keys(objectReaders)), ", "), ErrFormat)
}

func (r Reader) readFile(path string, read objectReader) ([]Record, error) {
	var records []Record
	err := eachObject(path, read, func(o object) error {
		record, err := r.record(o)
		records = append(records, record)
		return err
	})
	return records, err
}

// Preferences is ReadPreferences.
func (r Reader) Preferences(path string) ([]Preference, error) {
	read, err := readerOf(path)
	if err != nil {
		return nil, err
	}
	var pairs []Preference
	err = eachObject(path, read, func(o object) error {
		pair, err := r.preference(o)
		pairs = append(pairs, pair)
		return err
	})
	return pairs, err
}

// eachObject reads a file, in which there must be something.
func eachObject(path string, read objectReader, each func(object) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	n := 0
	err = read(f, st.Size(), func(o object) error { n++; return each(o) })
	if err == nil && n == 0 {
		err = ErrEmpty
	}
	if err != nil {
		return fmt.Errorf("data: %s: %w", path, err)
	}
	return nil
}

const knownShapes = `{"text"}, {"prompt", "completion"}, {"prompt", "chosen", "rejected"}, {"question", "answer"}, {"instruction", "output"} or {"messages"}`

func (o object) has(keys ...string) bool {
	return !slices.ContainsFunc(keys, func(k string) bool {
		raw, ok := o[k]
		return !ok || string(raw) == "null" && (k == "prompt" || k == "input" || k == "label")
	})
}

// unknownShape names the keys that an object has.
func (o object) unknownShape(known string) error {
	keys := make([]string, 0, len(o))
	for key := range o {
		keys = append(keys, fmt.Sprintf("%.40q", key))
	}
	slices.Sort(keys)
	return fmt.Errorf("the keys are %s; known are %s: %w", strings.Join(keys, ", "), known, ErrFormat)
}

// texts reads strings of an object; the first fault stays.
type texts struct {
	o   object
	err error
}

func (t *texts) get(key string) string {
	var s *string
	if e := json.Unmarshal(t.o[key], &s); e != nil || s == nil {
		if t.err == nil {
			t.err = fmt.Errorf("%q is %.60q, want a string: %w", key, t.o[key], ErrFormat)
		}
		return ""
	}
	return *s
}

func (r Reader) record(o object) (Record, error) {
	t := &texts{o: o}
	var x Record
	switch {
	case o.has("prompt", "completion") && !isMessages(o["completion"]):
		x.Prompt, x.Completion = t.get("prompt"), t.get("completion")
	case o.has("prompt", "completion"):
		return r.answer(o["prompt"], o["completion"])
	case o.has("chosen"):
		if !o.has("rejected") { // nothing to tell the prompt from the answer by
			o = maps.Clone(o)
			o["rejected"] = json.RawMessage(`""`)
			if isMessages(o["chosen"]) {
				o["rejected"] = json.RawMessage(`[]`)
			}
		}
		pair, err := r.preference(o)
		return Record{Prompt: pair.Prompt, Completion: pair.Chosen, Rendered: pair.Rendered}, err
	case o.has("question", "answer"):
		x.Prompt, x.Completion = t.get("question")+"\n", t.get("answer")
	case o.has("instruction", "output"):
		x.Prompt, x.Completion = t.get("instruction")+"\n", t.get("output")
		if o.has("input") && t.err == nil {
			if input := t.get("input"); input != "" {
				x.Prompt += input + "\n"
			}
		}
	case o.has("messages"):
		messages, err := parseMessages(o["messages"])
		if err != nil {
			return x, fmt.Errorf("messages: %w", err)
		}
		return r.conversation(messages)
	case o.has("text"):
		x.Text = t.get("text")
		if x.Text == "" && t.err == nil {
			t.err = fmt.Errorf(`"text" is empty: %w`, ErrEmpty)
		}
		if o.has("label") {
			x.Label = strings.Trim(string(o["label"]), `"`)
			if strings.HasPrefix(string(o["label"]), `"`) {
				x.Label = t.get("label")
			}
		}
		return x, t.err
	default:
		return x, o.unknownShape(knownShapes)
	}
	if x.Completion == "" && t.err == nil {
		t.err = fmt.Errorf("the text to learn is empty: %w", ErrEmpty)
	}
	return x, t.err
}

// preference reads a pair of answers. Answers that are lists of messages go behind
// the prompt's messages.
func (r Reader) preference(o object) (Preference, error) {
	var p Preference
	if !o.has("chosen", "rejected") {
		return p, o.unknownShape(`{"prompt", "chosen", "rejected"}`)
	}
	if isMessages(o["chosen"]) {
		return r.messagePreference(o)
	}
	t := &texts{o: o}
	p.Chosen, p.Rejected = t.get("chosen"), t.get("rejected")
	if o.has("prompt") {
		p.Prompt = t.get("prompt")
	} else if n := alike([]byte(p.Chosen), []byte(p.Rejected)); n > 0 {
		for n > 0 && (inCharacter(p.Chosen, n) || inCharacter(p.Rejected, n)) {
			n--
		}
		if n > 0 && p.Chosen[n-1] == ' ' { // the space is the answers'
			n--
		}
		p.Prompt, p.Chosen, p.Rejected = p.Chosen[:n], p.Chosen[n:], p.Rejected[n:]
	}
	if t.err == nil && p.Chosen == "" {
		t.err = fmt.Errorf(`"chosen" is empty: %w`, ErrEmpty)
	}
	return p, t.err
}

// inCharacter says whether a place of a text is inside a character.
func inCharacter(s string, at int) bool { return at < len(s) && !utf8.RuneStart(s[at]) }

// alike returns how many elements two lists begin with alike.
func alike[T comparable](a, b []T) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

func (r Reader) messagePreference(o object) (Preference, error) {
	var lists [3][]text.Message
	for i, key := range []string{"prompt", "chosen", "rejected"} {
		if key == "prompt" && !o.has(key) {
			continue
		}
		var err error
		if lists[i], err = parseMessages(o[key]); err != nil {
			return Preference{}, fmt.Errorf("%s: %w", key, err)
		}
	}
	prompt, chosen, rejected := lists[0], lists[1], lists[2]
	if prompt == nil {
		n := min(alike(chosen, rejected), max(len(chosen)-1, 0))
		if len(rejected) == 0 {
			n = max(len(chosen)-1, 0)
		}
		prompt, chosen, rejected = chosen[:n], chosen[n:], rejected[min(n, len(rejected)):]
	}
	good, err := r.conversation(slices.Concat(prompt, chosen))
	if err != nil || len(rejected) == 0 {
		return Preference{Prompt: good.Prompt, Chosen: good.Completion, Rendered: good.Rendered}, err
	}
	bad, err := r.conversation(slices.Concat(prompt, rejected))
	if err == nil && bad.Prompt != good.Prompt {
		err = fmt.Errorf("the answers have more than one message each: %w", ErrFormat)
	}
	return Preference{good.Prompt, good.Completion, bad.Completion, good.Rendered}, err
}

// answer reads a prompt and a completion that are lists of messages.
func (r Reader) answer(prompt, completion json.RawMessage) (Record, error) {
	p, err := parseMessages(prompt)
	if err != nil {
		return Record{}, fmt.Errorf("prompt: %w", err)
	}
	c, err := parseMessages(completion)
	if err != nil {
		return Record{}, fmt.Errorf("completion: %w", err)
	}
	return r.conversation(slices.Concat(p, c))
}

func isMessages(raw json.RawMessage) bool { return strings.HasPrefix(string(raw), "[") }

func parseMessages(raw json.RawMessage) ([]text.Message, error) {
	var messages []text.Message
	if err := json.Unmarshal(raw, &messages); err != nil {
		return nil, fmt.Errorf("%w: %w", err, ErrFormat)
	}
	return messages, nil
}

// conversation makes the assistant's last message what is learnt.
func (r Reader) conversation(messages []text.Message) (Record, error) {
	last := len(messages) - 1
	if last < 0 || messages[last].Role != "assistant" {
		return Record{}, fmt.Errorf("messages: the last one must be the assistant's: %w", ErrFormat)
	}
	if r.Chat == nil {
		prompt, err := PlainChat(messages[:last])
		if err == nil && messages[last].Content == "" {
			err = fmt.Errorf("messages: the last one is empty: %w", ErrEmpty)
		}
		return Record{Prompt: prompt, Completion: " " + messages[last].Content}, err
	}
	prompt, err := r.Chat.Render(messages[:last], true)
	var whole string
	if err == nil {
		whole, err = r.Chat.Render(messages, false)
	}
	if err != nil {
		return Record{}, fmt.Errorf("messages: %w: %w", err, ErrFormat)
	}
	completion, ok := strings.CutPrefix(whole, prompt)
	if !ok {
		return Record{}, fmt.Errorf("messages: the chat template writes the start of the conversation otherwise when the answer is there, so it cannot be learnt from (%.80q): %w", prompt, ErrFormat)
	}
	if completion == "" {
		return Record{}, fmt.Errorf("messages: the last one is empty: %w", ErrEmpty)
	}
	return Record{Prompt: prompt, Completion: completion, Rendered: true}, nil
}

// plainNames are the roles as PlainChat writes them.
var plainNames = map[string]string{"system": "System", "user": "User", "assistant": "Assistant"}

// PlainChat writes a conversation without a template: a role and its words a line,
// and the assistant's name, behind which its next message goes with a space.
func PlainChat(messages []text.Message) (string, error) {
	var b strings.Builder
	for i, m := range messages {
		name, ok := plainNames[m.Role]
		if !ok {
			return "", fmt.Errorf("messages: message %d has the role %.40q; known are system, user, assistant: %w", i+1, m.Role, ErrFormat)
		}
		b.WriteString(name + ": " + m.Content + "\n")
	}
	return b.String() + "Assistant:", nil
}

// recovered turns a panic of a library that reads a malformed file into an error.
func recovered(err *error) {
	if r := recover(); r != nil {
		if e, ok := r.(error); ok && errors.Is(e, ErrFormat) {
			*err = e
			return
		}
		*err = fmt.Errorf("the file is damaged: %v: %w", r, ErrFormat)
	}
}
