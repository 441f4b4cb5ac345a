package data

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tare/engine/text"
)

// stream is ids 0, 1, 2 …: a token's value is its place.
func stream(n int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(i)
	}
	return ids
}

// take returns the next n batches.
func take(t rapid.TB, s Source, n int) []*Batch {
	t.Helper()
	var out []*Batch
	for range n {
		b, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

func TestWindowsCoverAnEpochWithoutOverlap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 300).Draw(t, "tokens")
		length := rapid.IntRange(1, 40).Draw(t, "length")
		w, err := NewWindows(stream(n), length, 1, rapid.Uint64().Draw(t, "seed"))
		if err != nil {
			t.Fatal(err)
		}
		length = min(length, n-1)
		for epoch := range 3 {
			var starts []int
			for first := true; first || w.Position < len(w.order); first = false {
				b := take(t, w, 1)[0]
				if w.Epoch != epoch || len(b.Tokens) != length || !slices.Equal(b.Lengths, []int{length}) {
					t.Fatalf("epoch %d of %d: %d tokens, lengths %v", w.Epoch, epoch, len(b.Tokens), b.Lengths)
				}
				for i, token := range b.Tokens {
					if token != b.Tokens[0]+int32(i) || b.Targets[i] != token+1 {
						t.Fatalf("tokens %v, targets %v", b.Tokens, b.Targets)
					}
				}
				starts = append(starts, int(b.Tokens[0]))
			}
			slices.Sort(starts)
			for i, at := range starts {
				if at != starts[0]+i*length {
					t.Fatalf("windows start at %v, want %d apart", starts, length)
				}
			}
			// What is left over at either end is less than a window.
			if end := starts[len(starts)-1] + length; starts[0] >= length || n-1-end >= length {
				t.Fatalf("%d tokens: windows of %d from %d to %d", n, length, starts[0], end)
			}
		}
	})
}

func TestWindowsMoveAndShuffle(t *testing.T) {
	w, _ := NewWindows(stream(1000), 10, 1, 7)
	offsets, orders := map[int]bool{}, map[string]bool{}
	for w.Epoch < 8 {
		take(t, w, 1)
		offsets[w.offset] = true
		orders[fmt.Sprint(w.order)] = true
	}
	if len(offsets) < 4 || len(orders) < 8 {
		t.Errorf("9 epochs: %d offsets, %d orders", len(offsets), len(orders))
	}
}

func TestWindowBatchesPredictEveryTokenOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 200).Draw(t, "tokens")
		length, size := rapid.IntRange(1, 30).Draw(t, "length"), rapid.IntRange(1, 5).Draw(t, "batch")
		batches, err := WindowBatches(stream(n), length, size)
		if err != nil {
			t.Fatal(err)
		}
		var predicted []int32
		for i, b := range batches {
			rows := 0
			for k, l := range b.Lengths {
				if l > length || l < length && (i < len(batches)-1 || k < len(b.Lengths)-1) {
					t.Fatalf("lengths %v", b.Lengths)
				}
				rows += l
			}
			if rows != len(b.Tokens) || rows != len(b.Targets) || len(b.Lengths) > size || b.Count() != rows {
				t.Fatalf("%d rows, %+v", rows, b)
			}
			for k, token := range b.Tokens {
				if b.Targets[k] != token+1 {
					t.Fatalf("%d predicts %d", token, b.Targets[k])
				}
			}
			predicted = append(predicted, b.Targets...)
		}
		if !slices.Equal(predicted, stream(n)[1:]) {
			t.Fatalf("predicted %v of %d tokens", predicted, n)
		}
	})
}

func examples(n int) []Example {
	var ex []Example
	for i := range n {
		ex = append(ex, Example{Tokens: stream(2 + i%5), Prompt: i % 2})
		ex[i].Tokens[0] = int32(1000 + i)
	}
	return ex
}

func TestSourcesResume(t *testing.T) {
	for name, open := range map[string]func(seed uint64) Source{
		"windows": func(seed uint64) Source {
			s, err := NewWindows(stream(100), 7, 3, seed)
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		"examples": func(seed uint64) Source {
			s, err := NewExamples(examples(11), 3, seed)
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			for at := range 20 {
				a := open(5)
				take(t, a, at)
				saved, err := a.State()
				if err != nil {
					t.Fatal(err)
				}
				b := open(99)
				if err := b.Restore(saved); err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(take(t, a, 15), take(t, b, 15)) {
					t.Fatalf("resumed after %d batches from %s, other batches came", at, saved)
				}
			}
			if !reflect.DeepEqual(take(t, open(5), 9), take(t, open(5), 9)) || reflect.DeepEqual(take(t, open(5), 9), take(t, open(6), 9)) {
				t.Error("batches are not a matter of the seed")
			}
			s := open(5)
			for _, bad := range []string{``, `[]`, `{"epoch":0,"position":0,"seed":1,"size":12345}`, strings.ReplaceAll(first(s), `"position":0`, `"position":999`), strings.ReplaceAll(first(s), `"position":0`, `"position":-1`)} {
				if err := s.Restore([]byte(bad)); !errors.Is(err, ErrFormat) {
					t.Errorf("state %q: %v", bad, err)
				}
			}
			if !reflect.DeepEqual(take(t, s, 9), take(t, open(5), 9)) {
				t.Error("a refused state changed the source")
			}
		})
	}
}

func first(s Source) string { state, _ := s.State(); return string(state) }

func TestExamplesGiveEachOnceAnEpoch(t *testing.T) {
	ex := examples(12)
	s, err := NewExamples(ex, 4, 3)
	if err != nil {
		t.Fatal(err)
	}
	var orders []string
	for range 3 {
		var got []int32
		for _, b := range take(t, s, 3) {
			at := 0
			for _, l := range b.Lengths {
				got = append(got, b.Tokens[at]-1000)
				at += l
			}
			if at != len(b.Tokens) || at != len(b.Targets) {
				t.Fatalf("lengths %v of %d tokens", b.Lengths, len(b.Tokens))
			}
		}
		orders = append(orders, fmt.Sprint(got))
		slices.Sort(got)
		if !slices.Equal(got, stream(12)) {
			t.Errorf("an epoch gave %v", got)
		}
	}
	if orders[0] == orders[1] || orders[1] == orders[2] {
		t.Errorf("orders %v", orders)
	}
}

func TestTargets(t *testing.T) {
	for _, c := range []struct {
		prompt int
		want   []int32
	}{{0, []int32{6, 7, 8, -1}}, {1, []int32{6, 7, 8, -1}}, {2, []int32{-1, 7, 8, -1}}, {3, []int32{-1, -1, 8, -1}}} {
		batches, err := ExampleBatches([]Example{{[]int32{5, 6, 7, 8}, c.prompt}, {[]int32{1, 2}, 0}}, 2)
		if err != nil {
			t.Fatal(err)
		}
		want := &Batch{Tokens: []int32{5, 6, 7, 8, 1, 2}, Targets: append(c.want, 2, -1), Lengths: []int{4, 2}}
		if !reflect.DeepEqual(batches, []*Batch{want}) {
			t.Errorf("prompt of %d: %+v, want %+v", c.prompt, batches[0], want)
		}
	}
}

func TestNothingToLearn(t *testing.T) {
	errs := map[string]error{}
	_, errs["no stream"] = NewWindows(nil, 4, 1, 0)
	_, errs["one token"] = WindowBatches([]int32{1}, 4, 1)
	_, errs["no examples"] = NewExamples(nil, 4, 0)
	_, errs["all prompt"] = ExampleBatches([]Example{{[]int32{1, 2}, 2}}, 4)
	_, errs["one token each"] = NewExamples([]Example{{[]int32{1}, 0}}, 4, 0)
	_, errs["no records"] = Tokenize(nil, nil, 10, -1)
	for name, err := range errs {
		if !errors.Is(err, ErrEmpty) {
			t.Errorf("%s: %v, want ErrEmpty", name, err)
		}
	}
	if _, err := NewWindows(stream(5), 0, 1, 0); err == nil {
		t.Error("windows of no tokens")
	}
	if _, err := NewExamples(examples(3), 0, 0); err == nil {
		t.Error("batches of no examples")
	}
}

func TestTokenize(t *testing.T) {
	raw, err := text.Train([]string{"a"}, text.TrainOptions{Vocab: 257, Special: []string{"<eos>"}})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := text.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Tokenize(tok, []Record{{Text: "ab"}, {Prompt: "abc", Completion: "de"}, {Text: "z<eos>"}}, 6, 0)
	if err != nil {
		t.Fatal(err)
	}
	id := func(s string) int32 { i, _ := tok.ID(s); return i }
	a, b, c, d, e, z := id("a"), id("b"), id("c"), id("d"), id("e"), id("z")
	want := []Example{{[]int32{a, b, 0}, 0}, {[]int32{a, b, c, d, e, 0}, 3}, {[]int32{z, 0}, 0}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if _, err := Tokenize(tok, []Record{{Text: "ab"}, {Text: "abcdefg"}}, 6, -1); err == nil || !strings.Contains(err.Error(), "record 2 has 7 tokens") {
		t.Errorf("too long: %v", err)
	}
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadJSONL(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	got, err := ReadJSONL(write(t, "\uFEFF"+`{"text":"a\nb","meta":{"k":1}}`+"\r\n\n  \n"+
		`{"prompt":"p","completion":"c"}`+"\n"+
		`{"question":"q","answer":"a"}`+"\n"+
		`{"instruction":"i","output":"o"}`+"\n"+
		`{"instruction":"i","input":"in","output":"o"}`+"\n"+
		`{"messages":[{"role":"system","content":"s"},{"role":"user","content":"u"},{"role":"assistant","content":"a"},{"role":"user","content":"v"},{"role":"assistant","content":"w"}]}`+"\n"+
		`{"text":"`+long+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Record{
		{Text: "a\nb"}, {Prompt: "p", Completion: "c"}, {Prompt: "q\n", Completion: "a"}, {Prompt: "i\n", Completion: "o"}, {Prompt: "i\nin\n", Completion: "o"},
		{Prompt: "System: s\nUser: u\nAssistant: a\nUser: v\nAssistant:", Completion: " w"}, {Text: long},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestBadFilesAreNamed(t *testing.T) {
	ok := `{"text":"x"}` + "\n"
	for content, want := range map[string]string{
		ok + `{"body":"x","title":"y"}`:                         `line 2: the keys are "body", "title"; known are {"text"}`,
		ok + "\n" + `{"text":"x"`:                               "line 3: ",
		ok + `["x"]`:                                            "line 2: ",
		ok + `{"text":7}`:                                       `line 2: "text" is "7", want a string`,
		ok + `{"prompt":"x","completion":null}`:                 `line 2: "completion"`,
		ok + `{"messages":[]}`:                                  "line 2: messages: the last one",
		ok + `{"messages":[{"role":"user","content":"x"}]}`:     "line 2: messages: the last one",
		ok + `{"messages":"x"}`:                                 "line 2: messages",
		ok + `{"messages":[{"role":"x"},{"role":"assistant"}]}`: `line 2: messages: message 1 has the role "x"`,
		ok + "{\"text\":\"\xff\"}":                              "line 2: byte 9 (0xff) is not UTF-8",
	} {
		if _, err := ReadJSONL(write(t, content)); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: %v, want %q", content, err, want)
		}
	}
	for _, content := range []string{"", "\n \n", `{"text":""}`, `{"prompt":"x","completion":""}`} {
		if _, err := ReadJSONL(write(t, content)); !errors.Is(err, ErrEmpty) {
			t.Errorf("%q: %v, want ErrEmpty", content, err)
		}
	}
	if _, err := ReadText(write(t, "ab\ncd\xe2\x82 e")); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "byte 5 (0xe2, line 2)") {
		t.Errorf("text that is not UTF-8: %v", err)
	}
	if _, err := ReadText(write(t, "")); !errors.Is(err, ErrEmpty) {
		t.Errorf("empty text: %v", err)
	}
	if got, err := ReadText(write(t, "\uFEFFé")); got != "é" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for name, err := range map[string]error{"text": second(ReadText("none")), "JSONL": second(ReadJSONL("none"))} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func FuzzReadJSONL(f *testing.F) {
	f.Add(`{"text":"a"}` + "\n" + `{"prompt":"p","completion":"c"}`)
	f.Add(`{"messages":[{"role":"user","content":"u"},{"role":"assistant","content":"a"}]}`)
	f.Add("{\"instruction\":null,\"output\":\"\\ud800\"}\n\xff")
	f.Fuzz(func(t *testing.T, s string) {
		sound(t, readJSONL, []byte(s))
	})
}
