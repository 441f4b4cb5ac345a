package cli

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/model"
	"tare/engine/text"
	"tare/lab/bundle"
)

// tare runs the command line and returns what it printed.
func tare(t *testing.T, args ...string) string {
	t.Helper()
	var out, errOut bytes.Buffer
	if code := run(t.Context(), args, strings.NewReader(""), &out, &errOut); code != exitDone {
		t.Fatalf("tare %s ends with %d: %s", strings.Join(args, " "), code, errOut.String())
	}
	return out.String()
}

// lossOf measures a model on a text file; more are flags.
func lossOf(t *testing.T, modelPath, textFile, seq string, more ...string) float64 {
	t.Helper()
	var r evaluated
	args := append([]string{"eval", modelPath, "--text", textFile, "--seq", seq, "--json", "-q"}, more...)
	if err := json.Unmarshal([]byte(tare(t, args...)), &r); err != nil {
		t.Fatal(err)
	}
	return r.Texts[0].Loss
}

// opticksStart is the text on which llama.cpp was measured.
func opticksStart(t *testing.T, size int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "opticks.txt")
	if err := os.WriteFile(path, opticksBytes(size), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func opticksBytes(size int) []byte {
	return []byte(strings.ToValidUTF8(bundle.Opticks(bundle.Test)[:size], ""))
}

// The same model in GGUF, and back from it, is the same model: pre-tokenizers, biases,
// stretched positions, an untied head, all kinds of tokenizers.
func TestModelsSurviveGGUF(t *testing.T) {
	textFile := opticksStart(t, 4000)
	for _, c := range ggufModels {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), c.name)
			c.write(t, dir)
			file := dir + ".gguf"
			tare(t, "convert", dir, "--out", file, "--type", "f32", "-q")
			tare(t, "convert", file, "--out", dir+"-back", "-q")
			want := lossOf(t, dir, textFile, "64")
			for _, path := range []string{file, dir + "-back"} {
				if got := lossOf(t, path, textFile, "64"); math.Abs(got-want) > 1e-6 {
					t.Errorf("the loss of %s is %.9f, that of the folder %.9f", filepath.Base(path), got, want)
				}
			}
			folder, err := checkpoint.OpenFolder(file)
			if err != nil {
				t.Fatal(err)
			}
			defer folder.Close()
			raw, err := folder.Read("tokenizer.json")
			if err != nil {
				t.Fatal(err)
			}
			got, err := text.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			tok, err := text.Load(filepath.Join(dir, "tokenizer.json"))
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range append(strings.Split(bundle.Opticks(bundle.Test)[:8000], "\n"), append(oddTexts, decomposed)...) {
				if a, b := got.Encode(s), tok.Encode(s); !slices.Equal(a, b) {
					t.Fatalf("%.60q becomes %.60v by way of GGUF, want %.60v", s, fmt.Sprint(a), fmt.Sprint(b))
				}
			}
		})
	}
}

var oddTexts = []string{"", " ", "  two  spaces", "\n\n\t x", "12345 6", "It's naïve, 光と影! <|endoftext|>", "'S'LL x'Re", "🙂🙂 a_b=c+d"}

// decomposed is in two characters what NFC makes one of; llama.cpp knows no NFC.
const decomposed = "e\u0301"

// ggufModel is a tiny random model with one of the tokenizers of engine/text.
type ggufModel struct {
	name, tokenizer string
	shape           func(c *model.Config)
}

var ggufModels = []ggufModel{
	{"llama-gpt2", "gpt2", func(c *model.Config) {}},
	{"llama-smollm", "smollm", func(c *model.Config) { c.TieEmbeddings = false }},
	{"llama3", "llama3", func(c *model.Config) {
		c.RopeTheta, c.MaxPositions = 500000, 16384
		c.RopeScaling = &model.RopeScaling{Type: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositions: 8192}
	}},
	{"mistral", "gpt2", func(c *model.Config) { c.ModelType, c.Architectures = "mistral", []string{"MistralForCausalLM"} }},
	{"llama-linear", "llama2", func(c *model.Config) { c.RopeScaling = &model.RopeScaling{Type: "linear", Factor: 4} }},
	{"qwen2", "qwen2", func(c *model.Config) {
		c.ModelType, c.Architectures, c.AttentionBias = "qwen2", []string{"Qwen2ForCausalLM"}, true
	}},
}

func (c ggufModel) write(t *testing.T, dir string) {
	t.Helper()
	tokenizer, err := os.ReadFile(filepath.Join("../../engine/text/testdata", c.tokenizer+".json"))
	if err != nil {
		t.Fatal(err)
	}
	tok, err := text.Parse(tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	config := tinyConfig((tok.VocabSize() + 31) / 32 * 32)
	config.HiddenSize, config.Heads, config.KVHeads, config.HeadDim = 64, 4, 2, 16
	c.shape(config)
	m, err := model.NewLlama(config, 7)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range m.Params() { // far from a fresh model's sameness, biases included
		for j, x := 0, p.Value.F32(); j < len(x); j++ {
			x[j] = x[j]*3 + 0.1*float32(math.Sin(float64(i*31+j)))
		}
	}
	doc, err := m.Config.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if err := writeModel(dir, m, map[string][]byte{"config.json": doc, "tokenizer.json": tokenizer}); err != nil {
		t.Fatal(err)
	}
}

// TestExportGGUFForParity writes what parity/check_gguf.py gives to llama.cpp: GGUF
// files, and for each the ids and the loss that Tare has on one text.
func TestExportGGUFForParity(t *testing.T) {
	dir := os.Getenv("TARE_EXPORT")
	if dir == "" {
		t.Skip("TARE_EXPORT is not set; parity/README.md says what for")
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	textFile := opticksStart(t, 4000)
	data, err := os.ReadFile(textFile)
	if err != nil {
		t.Fatal(err)
	}
	sample := string(data) + strings.Join(oddTexts, "\n")
	if err := os.WriteFile(filepath.Join(dir, "smollm2.txt"), opticksBytes(smollm2Bytes), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "text.txt"), []byte(sample), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range ggufModels {
		folder := filepath.Join(t.TempDir(), c.name)
		c.write(t, folder)
		file := filepath.Join(dir, c.name+".gguf")
		tare(t, "convert", folder, "--out", file, "--type", "f32", "-q", "--overwrite")
		tok, err := text.Load(filepath.Join(folder, "tokenizer.json"))
		if err != nil {
			t.Fatal(err)
		}
		var ids bytes.Buffer
		if err := binary.Write(&ids, binary.LittleEndian, tok.EncodeOrdinary(sample)); err != nil {
			t.Fatal(err)
		}
		loss := lossOf(t, file, filepath.Join(dir, "text.txt"), "64")
		for suffix, data := range map[string][]byte{".ids": ids.Bytes(), ".loss": fmt.Appendf(nil, "%.8f\n", loss)} {
			if err := os.WriteFile(filepath.Join(dir, c.name+suffix), data, 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
}
