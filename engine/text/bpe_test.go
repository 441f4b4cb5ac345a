package text

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// opticks returns Newton's Opticks, which the Go distribution has among its test data.
func opticks(t testing.TB) string {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skip("no go command: ", err)
	}
	raw, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "src", "testdata", "Isaac.Newton-Opticks.txt"))
	if err != nil {
		t.Skip("no Opticks: ", err)
	}
	return string(raw)
}

// made are the tokenizers in testdata.
var made = []string{"gpt2", "llama3", "qwen2", "smollm", "lower", "llama2", "bert", "cased", "xlmr", "albert", "llama2first"}

// plain merges by the definition: the pair of the lowest rank, the leftmost first.
func plain(m *bpe, ids []int32) []int32 {
	ids = slices.Clone(ids)
	for {
		best, at := int32(noRank), -1
		for i := range len(ids) - 1 {
			if r := m.rank(ids[i], ids[i+1]); r < best {
				best, at = r, i
			}
		}
		if at < 0 {
			return ids
		}
		ids[at] = m.merged[best]
		ids = slices.Delete(ids, at+1, at+2)
	}
}

func TestBothMergeLoopsAreTheDefinition(t *testing.T) {
	m := load(t, "gpt2").model.(*bpe)
	letters := rapid.SliceOfN(rapid.SampledFrom([]byte("thereintoa s")), 0, 120)
	rapid.Check(t, func(t *rapid.T) {
		w := newWords(m)
		w.symbols(string(letters.Draw(t, "word")))
		want := plain(m, w.ids)
		long := w.long.merge(nil, m, slices.Clone(w.ids))
		if !slices.Equal(long, want) {
			t.Fatalf("heap: %v, want %v", long, want)
		}
		if short := w.mergeShort(); !slices.Equal(short, want) {
			t.Fatalf("scan: %v, want %v", short, want)
		}
	})
}

// A byte-level tokenizer without normaliser gives back any text that is UTF-8.
func TestByteLevelRoundTrips(t *testing.T) {
	for _, name := range []string{"gpt2", "smollm", "llama3"} {
		tok := load(t, name)
		rapid.Check(t, func(t *rapid.T) {
			s := anyText().Draw(t, "text")
			if got := tok.Decode(tok.EncodeOrdinary(s), false); got != s {
				t.Fatalf("%q came back as %q", s, got)
			}
		})
	}
}

func TestTokensAndIDs(t *testing.T) {
	for _, name := range made {
		tok := load(t, name)
		for id := range int32(tok.VocabSize()) {
			token := tok.Token(id)
			if got, ok := tok.ID(token); token != "" && (!ok || got != id) {
				t.Errorf("%s: Token(%d) = %q, whose ID is %d, %v", name, id, token, got, ok)
			}
		}
		if tok.Token(-1) != "" || tok.Token(int32(tok.VocabSize())) != "" {
			t.Errorf("%s: ids outside have tokens", name)
		}
		if _, ok := tok.ID("no such token"); ok {
			t.Errorf("%s: a token that is not there has an id", name)
		}
		if got := tok.Decode([]int32{-5, 1 << 30}, false); got != "" {
			t.Errorf("%s: unknown ids decode to %q", name, got)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	tok, text := load(t, "qwen2"), strings.Repeat("The Rays which differ in Refrangibility. ", 20)
	want := tok.Encode(text)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if got := tok.Encode(text); !slices.Equal(got, want) {
					t.Error("another result in another goroutine")
				}
			}
		})
	}
	wg.Wait()
}

func TestTrainIsTheReferenceTrainer(t *testing.T) {
	text := opticks(t)
	got, err := Train([]string{text}, TrainOptions{Vocab: 1000, Special: []string{"<|endoftext|>", "<|pad|>"}})
	if err != nil {
		t.Fatal(err)
	}
	type file struct {
		Added []addedToken `json:"added_tokens"`
		Model struct {
			Vocab  map[string]int32 `json:"vocab"`
			Merges mergeList        `json:"merges"`
		} `json:"model"`
	}
	var have, want file
	readJSON(t, "gpt2.json", &want)
	if err := json.Unmarshal(got, &have); err != nil {
		t.Fatal(err)
	}
	for i, m := range want.Model.Merges {
		if i >= len(have.Model.Merges) || have.Model.Merges[i] != m {
			t.Fatalf("merge %d of %d differs: want %q", i, len(have.Model.Merges), m)
		}
	}
	if len(have.Model.Merges) != len(want.Model.Merges) || len(have.Model.Vocab) != 1000 {
		t.Errorf("%d merges, want %d; %d tokens, want 1000", len(have.Model.Merges), len(want.Model.Merges), len(have.Model.Vocab))
	}
	for token, id := range want.Model.Vocab {
		if have.Model.Vocab[token] != id {
			t.Errorf("%q has the id %d, want %d", token, have.Model.Vocab[token], id)
		}
	}
	if !slices.Equal(have.Added, want.Added) {
		t.Errorf("added tokens %v, want %v", have.Added, want.Added)
	}
}

func TestTrainedTokenizerIsWhole(t *testing.T) {
	raw, err := Train([]string{"low low low lower lowest", "\xff"}, TrainOptions{Vocab: 300, Special: []string{"<s>"}})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	// By hand: lo and ow occur five times each and l has the smaller id; then low.
	for token, want := range map[string]int32{"<s>": 0, "!": 1, "lo": 257, "low": 258, "Ġlow": 259} {
		if id, ok := tok.ID(token); !ok || id != want {
			t.Errorf("%q has the id %d, want %d", token, id, want)
		}
	}
	if got := tok.Decode(tok.Encode("\x00 any Ω 😀"), false); got != "\x00 any Ω 😀" {
		t.Errorf("round trip gives %q", got)
	}
	again, _ := Train([]string{"low low low lower lowest", "\xff"}, TrainOptions{Vocab: 300, Special: []string{"<s>"}})
	if string(again) != string(raw) {
		t.Error("the same texts give another file")
	}
	for _, o := range []TrainOptions{{Vocab: 256, Special: []string{"x"}}, {Vocab: 300, Special: []string{"a", "a"}}, {Vocab: 300, Special: []string{""}}} {
		if _, err := Train(nil, o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}

func TestOneLongWordIsFast(t *testing.T) {
	tok := load(t, "gpt2")
	start := time.Now()
	for _, s := range []string{"a", "the", "=", " ", "\n"} {
		tok.Encode(strings.Repeat(s, 1<<20/len(s)))
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("five words of a megabyte took %v", d)
	}
}

func TestBadFilesAreNamed(t *testing.T) {
	model := `"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}`
	for doc, want := range map[string]string{
		``:   "document",
		`[]`: "document",
		`{}`: "no model",
		`{"model":{"type":"Other","vocab":{"a":0}}}`:                                                                                        `model: "Other" is not supported (known: BPE, Unigram`,
		`{"model":{"type":"Unigram","vocab":[]}}`:                                                                                           "no vocab",
		`{"model":{"type":"Unigram","vocab":[["a",-1.5]],"unk_id":1}}`:                                                                      "unk_id is 1, the vocab has 1",
		`{"model":{"type":"Unigram","vocab":[["a"]]}}`:                                                                                      "a piece has 1 parts",
		`{"model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"?"}}`:                                                                    `unk_token "?"`,
		`{"model":{"type":"WordPiece","vocab":{"a":0}}}`:                                                                                    `unk_token "[UNK]"`,
		`{"model":{"type":"BPE","vocab":{},"merges":[]}}`:                                                                                   "no vocab",
		`{"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}}`:                                                                         `merge 0 ("a" "b"): "b" is not in the vocab`,
		`{"model":{"type":"BPE","vocab":{"a":0},"merges":["ab"]}}`:                                                                          "merge 0",
		`{"model":{"type":"BPE","vocab":{"a":0},"merges":[["a","b","c"]]}}`:                                                                 "merge 0 has 3 parts",
		`{"model":{"type":"BPE","vocab":{"a":0},"merges":7}}`:                                                                               "model",
		`{"model":{"type":"BPE","vocab":{"a":0,"b":0},"merges":[]}}`:                                                                        `"a" and "b" have the same id 0`,
		`{"model":{"type":"BPE","vocab":{"a":2000000000},"merges":[]}}`:                                                                     `"a" has the id 2000000000`,
		`{"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}}`:                                                                             `"a" has the id -1`,
		`{"model":{"type":"BPE","vocab":{"a":0},"merges":[],"dropout":0.1}}`:                                                                "dropout is 0.1",
		`{"model":{"type":"BPE","vocab":{"a":0},"merges":[],"unk_token":"?"}}`:                                                              `unk_token "?"`,
		`{"added_tokens":[{"id":900000000,"content":"x"}],` + model + `}`:                                                                   `"x" has the id 900000000`,
		`{"normalizer":{"type":"Other"},` + model + `}`:                                                                                     `normalizer: "Other" is not supported (known: BertNormalizer, ByteLevel, Lowercase, NFC`,
		`{"normalizer":{"type":"Replace","pattern":{},"content":""},` + model + `}`:                                                         "pattern",
		`{"pre_tokenizer":{"type":"Metaspace","replacement":"ab"},` + model + `}`:                                                           `the replacement is "ab"`,
		`{"pre_tokenizer":{"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated"},` + model + `}`:                                    `pattern "("`,
		`{"pre_tokenizer":{"type":"Split","pattern":{"String":"a"},"behavior":"Merged"},` + model + `}`:                                     `behavior: "Merged"`,
		`{"pre_tokenizer":{"type":"CharDelimiterSplit","delimiter":"ab"},` + model + `}`:                                                    "not one character",
		`{"post_processor":{"type":"Other"},` + model + `}`:                                                                                 `post_processor: "Other"`,
		`{"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x"}}]},` + model + `}`:                             `"x" has no ids`,
		`{"post_processor":{"type":"TemplateProcessing","single":[{"Sequence":{"id":"B"}}]},` + model + `}`:                                 "piece 0",
		`{"post_processor":{"type":"BertProcessing","cls":["a",9],"sep":["b",1]},` + model + `}`:                                            "no token with the id 9",
		`{"decoder":{"type":"Other"},` + model + `}`:                                                                                        `decoder: "Other"`,
		`{"normalizer":{"type":"Precompiled","precompiled_charsmap":"AQAAAAA="},` + model + `}`:                                             "array has 1 bytes",
		`{"normalizer":{"type":"Precompiled","precompiled_charsmap":"%"},` + model + `}`:                                                    "normalizer",
		`{"pre_tokenizer":{"type":"Metaspace","prepend_scheme":"last"},` + model + `}`:                                                      `prepend_scheme: "last"`,
		`{"normalizer":` + strings.Repeat(`{"type":"Sequence","normalizers":[`, 20) + `null` + strings.Repeat(`]}`, 20) + `,` + model + `}`: "levels of Sequence",
	} {
		_, err := Parse([]byte(doc))
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.120s: %v, want ErrFormat with %q", doc, err, want)
		}
	}
	if _, err := Load("testdata/none.json"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	small := json.RawMessage(`{"type":"BPE","unk_token":"a","vocab":{"a":0,"b":1,"ab":2,"Ġ":3},"merges":["a b"]}`)
	for _, name := range made {
		var doc map[string]json.RawMessage
		readJSON(f, name+".json", &doc)
		doc["model"] = small // the fuzzer is slow on large inputs
		raw, err := json.Marshal(doc)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, "The naïve light's 12 <s> <|endoftext|> \n 😀\xff")
	}
	f.Add([]byte(`{"model":{"vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]}}`), "abba")
	f.Add([]byte(`{"model":{"type":"Unigram","vocab":[["a",-1],["ab",-1.5],["<0x62>",-3]],"unk_id":0,"byte_fallback":true},"pre_tokenizer":{"type":"Metaspace"}}`), "abba")
	f.Add([]byte(`{"model":{"type":"WordPiece","vocab":{"a":0,"##b":1,"[UNK]":2}},"decoder":{"type":"WordPiece"},"normalizer":{"type":"BertNormalizer"}}`), "abba Ä光")
	f.Fuzz(func(t *testing.T, file []byte, s string) {
		tok, err := Parse(file)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("%v is not ErrFormat", err)
			}
			return
		}
		ids := tok.Encode(s[:min(len(s), 200)])
		for _, id := range ids {
			if id < 0 || int(id) >= tok.VocabSize() {
				t.Fatalf("id %d of %d", id, tok.VocabSize())
			}
		}
		tok.Decode(ids, true)
		tok.Decode([]int32{0, 1, 2, -1, 1 << 30}, false)
	})
}

func BenchmarkEncode(b *testing.B) {
	s := opticks(b)
	for _, name := range []string{"gpt2", "llama3", "qwen2", "smollm"} {
		b.Run(name, func(b *testing.B) {
			tok := load(b, name)
			b.SetBytes(int64(len(s)))
			for b.Loop() {
				tok.Encode(s)
			}
		})
	}
}
