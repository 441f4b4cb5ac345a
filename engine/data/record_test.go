package data

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"tare/engine/text"
)

// named writes a file with a name of its own.
func named(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadRecords(t *testing.T) {
	for _, c := range []struct {
		name, content string
		want          []Record
	}{
		{"a.csv", "\uFEFFPrompt, completion ,x\r\n\"a,\"\"b\"\"\nc\",d,1\r\n", []Record{{Prompt: "a,\"b\"\nc", Completion: "d"}}},
		{"a.csv", "label,text\n3,one\nspam,two\n", []Record{{Text: "one", Label: "3"}, {Text: "two", Label: "spam"}}},
		{"a.csv", `messages` + "\n" + `"[{""role"":""user"",""content"":""u""},{""role"":""assistant"",""content"":""a""}]"` + "\n", []Record{{Prompt: "User: u\nAssistant:", Completion: " a"}}},
		{"a.TSV", "question\tanswer\nHow \"so\"?\tSo\n", []Record{{Prompt: "How \"so\"?\n", Completion: "So"}}},
		{"a.json", `[{"text":"a","label":1},{"instruction":"i","input":null,"output":"o"}]`, []Record{{Text: "a", Label: "1"}, {Prompt: "i\n", Completion: "o"}}},
		{"a.txt", "all of it\n", []Record{{Text: "all of it\n"}}},
		{"a.jsonl", `{"prompt":"p","chosen":"c","rejected":"r"}`, []Record{{Prompt: "p", Completion: "c"}}},
		{"a.jsonl", `{"chosen":[{"role":"user","content":"u"},{"role":"assistant","content":"a"}]}`, []Record{{Prompt: "User: u\nAssistant:", Completion: " a"}}},
		{"a.jsonl", `{"prompt":[{"role":"user","content":"u"}],"completion":[{"role":"assistant","content":"a"}]}`, []Record{{Prompt: "User: u\nAssistant:", Completion: " a"}}},
	} {
		got, err := ReadRecords(named(t, c.name, c.content))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s %q: %+v, %v, want %+v", c.name, c.content, got, err, c.want)
		}
	}
}

func TestReadPreferences(t *testing.T) {
	messages := `[{"role":"user","content":"u"},{"role":"assistant","content":"%"}]`
	good, bad := strings.ReplaceAll(messages, "%", "good"), strings.ReplaceAll(messages, "%", "bad")
	for content, want := range map[string]Preference{
		`{"prompt":"p","chosen":"c","rejected":"r"}`:     {Prompt: "p", Chosen: "c", Rejected: "r"},
		`{"chosen":"How? So é","rejected":"How? So è"}`:  {Prompt: "How? So", Chosen: " é", Rejected: " è"},
		`{"chosen":"yes","rejected":"no"}`:               {Chosen: "yes", Rejected: "no"},
		`{"chosen":` + good + `,"rejected":` + bad + `}`: {Prompt: "User: u\nAssistant:", Chosen: " good", Rejected: " bad"},
		`{"prompt":[{"role":"user","content":"u"}],"chosen":[{"role":"assistant","content":"good"}],"rejected":[{"role":"assistant","content":"bad"}]}`: {Prompt: "User: u\nAssistant:", Chosen: " good", Rejected: " bad"},
	} {
		got, err := ReadPreferences(named(t, "a.jsonl", content))
		if err != nil || !reflect.DeepEqual(got, []Preference{want}) {
			t.Errorf("%s: %+v, %v, want %+v", content, got, err, want)
		}
	}
	for content, want := range map[string]string{
		`{"prompt":"p","chosen":"c"}`:                     `line 1: the keys are "chosen", "prompt"`,
		`{"prompt":"p","chosen":1,"rejected":"r"}`:        `"chosen" is "1"`,
		`{"chosen":` + good + `,"rejected":[{"role":1}]}`: "rejected: ",
	} {
		if _, err := ReadPreferences(named(t, "a.jsonl", content)); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", content, err, want)
		}
	}
}

// What a template renders is learnt from the place on where the assistant speaks, and
// gets no special tokens around it.
func TestConversationsThroughATemplate(t *testing.T) {
	chat, err := text.NewChat("{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}", "<s>", "")
	if err != nil {
		t.Fatal(err)
	}
	line := `{"messages":[{"role":"user","content":"u"},{"role":"assistant","content":"a"}]}`
	got, err := Reader{Chat: chat}.Records(named(t, "a.jsonl", line))
	want := []Record{{Prompt: "<s><user>u</><assistant>", Completion: "a</>", Rendered: true}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
	tok, err := text.Parse([]byte(`{"model":{"type":"BPE","vocab":{"a":0,"<":1,"s":2,">":3,"u":4,"/":5,"e":6,"r":7,"n":8,"t":9,"i":10,"<s>":11},"merges":[]},"decoder":{"type":"Fuse"},
		"added_tokens":[{"id":11,"content":"<s>","special":true}],
		"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}},{"Sequence":{"id":"A"}}],"special_tokens":{"<s>":{"ids":[11]}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	examples, err := Tokenize(tok, got, 100, 5)
	if err != nil {
		t.Fatal(err)
	}
	x := examples[0]
	if whole := tok.Decode(x.Tokens, false); whole != "<s><user>u</><assistant>a</>" || tok.Decode(x.Tokens[x.Prompt:], false) != "a</>" {
		t.Errorf("%q, of which %d tokens are prompt", whole, x.Prompt)
	}
	contrary, err := text.NewChat("{{ messages | length }}{{ messages[-1].content }}", "", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (Reader{Chat: contrary}).Records(named(t, "a.jsonl", line)); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "otherwise") {
		t.Errorf("a template that changes its mind: %v", err)
	}
}

// The files are pyarrow's, with four kinds of compression.
func TestParquet(t *testing.T) {
	file := func(name string) string { return filepath.Join("testdata", name+".parquet") }
	for name, want := range map[string][]Record{
		"messages":   {{Prompt: "User: hi\nAssistant:", Completion: " hello"}, {Prompt: "User: a\nAssistant: b\nUser: c\nAssistant:", Completion: " d é"}},
		"preference": {{Prompt: "p", Completion: "c1"}, {Prompt: "q", Completion: " c2"}},
		"dictionary": {{Text: "one", Label: "1"}, {Text: "two", Label: "0"}, {Text: "one", Label: "1"}},
	} {
		if got, err := ReadRecords(file(name)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, want)
		}
	}
	pairs, err := ReadPreferences(file("preference"))
	if want := []Preference{{Prompt: "p", Chosen: "c1", Rejected: "r1"}, {Prompt: "q", Chosen: " c2", Rejected: " r2"}}; err != nil || !reflect.DeepEqual(pairs, want) {
		t.Errorf("%+v, %v", pairs, err)
	}
	sums, err := ReadRecords(file("completion")) // three row groups of many pages
	if err != nil || len(sums) != 2000 || sums[1234] != (Record{Prompt: "1234 + 1234 = ", Completion: "2468"}) {
		t.Errorf("%d records, %v", len(sums), err)
	}
}

func TestDamagedFilesAreNamed(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join("testdata", "messages.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, content, want string }{
		{"a.csv", "text,text\n", `two columns have the name "text"`}, {"a.csv", "text\na,b\n", "line 2: wrong number of fields"}, {"a.csv", "text\n\"a\n", "line 2"},
		{"a.csv", "text\n\xff\n", `line 2, column "text": not UTF-8`}, {"a.csv", "body\nx\n", `line 2: the keys are "body"`},
		{"a.json", `{"text":"a"}`, "not a JSON list"}, {"a.json", `[{"text":"a"},7]`, "object 2"}, {"a.json", `[{"text":"a"}`, "no end"},
		{"a.xml", "<a/>", `the extension ".xml" is not known (known: .csv, .json`},
		{"a.parquet", "PAR1", "not a Parquet file"}, {"a.parquet", string(whole[:len(whole)-9]), "not a Parquet file, or cut off"},
		{"a.parquet", "PAR1" + string(whole[200:]), ""},
	} {
		_, err := ReadRecords(named(t, c.name, c.content))
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.name) {
			t.Errorf("%s %.40q: %v, want ErrFormat with %q", c.name, c.content, err, c.want)
		}
	}
	for _, name := range []string{"a.csv", "a.jsonl"} {
		if _, err := ReadRecords(named(t, name, "")); !errors.Is(err, ErrEmpty) {
			t.Errorf("an empty %s: %v", name, err)
		}
	}
}

// sound fails unless records came or one of the package's errors.
func sound(t *testing.T, read objectReader, content []byte) {
	var r Reader
	records := 0
	err := read(bytes.NewReader(content), int64(len(content)), func(o object) error {
		x, err := r.record(o)
		if err == nil && (x.Text == "") == (x.Completion == "") {
			t.Fatalf("%+v", x)
		}
		records++
		return err
	})
	if err != nil && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrEmpty) {
		t.Fatalf("after %d records: %v", records, err)
	}
}

func FuzzReadCSV(f *testing.F) {
	for _, s := range []string{"text\na\n", "prompt,completion\n\"a\"\"\n\",b\n", "messages\n\"[{}]\"\n", "a,a\n", "\"", "text,label\n\xff,\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, content []byte) { sound(t, objectReaders[".csv"], content) })
}

func FuzzReadJSON(f *testing.F) {
	f.Add([]byte(`[{"text":"a"},{"chosen":[{"role":"assistant","content":"x"}],"rejected":[]}]`))
	f.Fuzz(func(t *testing.T, content []byte) { sound(t, readJSON, content) })
}

func FuzzReadParquet(f *testing.F) {
	for _, name := range []string{"messages", "preference", "dictionary"} {
		raw, err := os.ReadFile(filepath.Join("testdata", name+".parquet"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, content []byte) { sound(t, readParquet, content) })
}
