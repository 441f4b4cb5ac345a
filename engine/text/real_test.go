package text

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// realFolder names the environment variable with the folder that parity/text_real.py
// filled.
const realFolder = "TARE_REAL_TOKENIZERS"

// Files that are used in earnest, which are too large to stand here, against the ids
// and the decoded text that the reference makes of every line and of the whole.
func TestRealTokenizers(t *testing.T) {
	dir := os.Getenv(realFolder)
	if dir == "" {
		t.Skipf("%s names no folder that parity/text_real.py filled", realFolder)
	}
	var pairs []struct{ Tokenizer, Text string }
	unmarshalFile(t, filepath.Join(dir, "pairs.json"), &pairs)
	loaded := map[string]*Tokenizer{}
	for _, p := range pairs {
		tok := loaded[p.Tokenizer]
		if tok == nil {
			var err error
			if tok, err = Load(filepath.Join(dir, p.Tokenizer+".json")); err != nil {
				t.Fatal(err)
			}
			loaded[p.Tokenizer] = tok
		}
		t.Run(p.Tokenizer+"/"+p.Text, func(t *testing.T) {
			checkReal(t, tok, filepath.Join(dir, p.Text+".txt"), filepath.Join(dir, p.Tokenizer+"."+p.Text))
		})
	}
}

// checkReal compares the lines of a text and the whole with the recorded ids.
func checkReal(t *testing.T, tok *Tokenizer, text, recorded string) {
	raw, err := os.ReadFile(text)
	if err != nil {
		t.Fatal(err)
	}
	whole := string(raw)
	inputs := append(strings.Split(whole, "\n"), whole)
	ids, err := os.ReadFile(recorded + ".ids")
	if err != nil {
		t.Fatal(err)
	}
	var decoded []string
	unmarshalFile(t, recorded+".decoded.json", &decoded)
	next := func() int32 {
		v := int32(binary.NativeEndian.Uint32(ids))
		ids = ids[4:]
		return v
	}
	var took time.Duration
	wrong := 0
	for i, s := range inputs {
		want := make([]int32, next())
		for k := range want {
			want[k] = next()
		}
		began := time.Now()
		got := tok.Encode(s)
		took += time.Since(began)
		back := tok.Decode(got, true)
		if slices.Equal(got, want) && back == decoded[i] {
			continue
		}
		if wrong++; wrong <= 3 {
			at := 0
			for at < min(len(got), len(want)) && got[at] == want[at] {
				at++
			}
			t.Errorf("input %d, %.200q: from token %d on %v, want %v\ndecoded %.200q, want %.200q", i, s, at, first(got[at:]), first(want[at:]), back, decoded[i])
		}
	}
	t.Logf("%d of %d inputs differ; %.1f MB/s", wrong, len(inputs), float64(2*len(whole))/took.Seconds()/1e6)
}

func first(ids []int32) []int32 { return ids[:min(len(ids), 12)] }

func unmarshalFile(t *testing.T, path string, v any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}
