package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/data"
	"tare/engine/eval"
	"tare/engine/model"
	"tare/engine/text"
	"tare/method/adapt"
)

const parityModels = "../../engine/model/testdata/parity"

// wordPiece is a tokenizer of a few words.
const wordPiece = `{"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "Whitespace"},
 "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
  "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "light": 3, "bends": 4, "in": 5, "glass": 6, "rays": 7, "are": 8, "refracted": 9, "buy": 10, "now": 11, "cheap": 12, "gold": 13}},
 "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
  "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
  "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]}, "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]}}},
 "decoder": null}`

// classifierFolder copies a parity model, with other files beside it.
func classifierFolder(t *testing.T, name string, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"config.json", "model.safetensors"} {
		raw, err := os.ReadFile(filepath.Join(parityModels, name, file))
		if err != nil {
			t.Fatal(err)
		}
		files[file] = string(raw)
	}
	for file, content := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tuneJSON runs tare tune and returns its report.
func tuneJSON(t *testing.T, args ...string) tuned {
	t.Helper()
	var out bytes.Buffer
	if code := runIn(t, append([]string{"tune", "--json", "--steps", "100", "--batch", "4", "--lr", "0.003", "--seq-len", "16"}, args...), &out); code != exitDone {
		t.Fatalf("tare tune %v: exit code %d", args, code)
	}
	var r tuned
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// A text classifier learns labels by name, by an adapter that puts it in the same place
// again and by full fine-tuning.
func TestTuneTellsTexts(t *testing.T) {
	dir := classifierFolder(t, "bert-classes", map[string]string{"tokenizer.json": wordPiece})
	var rows []string
	for i := range 12 {
		rows = append(rows, fmt.Sprintf("light bends in glass %s,LABEL_0", strings.Repeat("rays ", i%3)), fmt.Sprintf("buy cheap gold %s,LABEL_1", strings.Repeat("now ", i%4)), "rays are refracted,2")
	}
	file := filepath.Join(t.TempDir(), "mails.csv")
	if err := os.WriteFile(file, []byte("text,label\n"+strings.Join(rows, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "adapter")
	r := tuneJSON(t, dir, "--data", file, "--valid", file, "--out", out, "-o", "rank=4")
	last := r.Evals[len(r.Evals)-1]
	if last.Accuracy == nil || *last.Accuracy != 1 || last.Tokens != len(rows) {
		t.Errorf("after 100 steps on %d texts: %+v, accuracy %g", len(rows), r.Evals, *last.Accuracy)
	}
	folder, err := checkpoint.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	m, err := model.LoadClassifier(folder.Config, folder, model.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := adapt.Load(out, m); err != nil {
		t.Fatal(err)
	}
	tok, err := text.Parse([]byte(wordPiece))
	if err != nil {
		t.Fatal(err)
	}
	s := &data.Samples{Tokens: [][]int32{tok.Encode("buy gold now"), tok.Encode("light in glass")}, Labels: []int32{1, 0}}
	if !slices.Equal(s.Tokens[0], []int32{1, 10, 13, 11, 2}) {
		t.Errorf("a text has the tokens %v", s.Tokens[0])
	}
	if _, right, err := eval.Classes(t.Context(), m, s, 2); err != nil || right != 1 {
		t.Errorf("with the adapter %g of new texts are told right, %v", right, err)
	}
	var measured bytes.Buffer
	if code := runIn(t, []string{"eval", dir, "--adapter", out, "--data", file, "--json"}, &measured); code != exitDone {
		t.Fatalf("tare eval: exit code %d", code)
	}
	var report struct{ Samples []told }
	if err := json.Unmarshal(measured.Bytes(), &report); err != nil || len(report.Samples) != 1 || report.Samples[0].Samples != len(rows) || report.Samples[0].Accuracy != 1 || math.Abs(report.Samples[0].Loss-last.Loss) > 1e-6 {
		t.Errorf("measured from its files: %s, %v; training ended with a loss of %g", measured.Bytes(), err, last.Loss)
	}
	if code := runIn(t, []string{"eval", bundled, "--data", file}, &measured); code != exitUsage {
		t.Errorf("a language model as a classifier: exit code %d", code)
	}
	whole := filepath.Join(t.TempDir(), "whole")
	tuneJSON(t, dir, "--data", file, "--out", whole, "--method", "full")
	if _, err := os.Stat(filepath.Join(whole, "tokenizer.json")); err != nil {
		t.Error(err)
	}
	var refused bytes.Buffer
	if code := runIn(t, []string{"tune", dir, "--data", filepath.Join(parityModels, "bert", "config.json"), "--out", out + "2"}, &refused); code != exitBadInput {
		t.Errorf("records without labels: exit code %d", code)
	}
}

// An image classifier learns from a folder of folders.
func TestTuneTellsImages(t *testing.T) {
	dir := classifierFolder(t, "vit", map[string]string{"preprocessor_config.json": `{"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.2]}`})
	images := t.TempDir()
	for class, shade := range map[string]color.RGBA{"LABEL_1": {R: 250, A: 255}, "LABEL_3": {G: 250, A: 255}} {
		if err := os.Mkdir(filepath.Join(images, class), 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range 6 {
			img := image.NewRGBA(image.Rect(0, 0, 12, 12))
			for at := range 144 {
				img.Set(at%12, at/12, color.RGBA{shade.R, shade.G, uint8(40 * i), 255})
			}
			var buf bytes.Buffer
			if err := png.Encode(&buf, img); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(images, class, fmt.Sprint(i, ".png")), buf.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := tuneJSON(t, dir, "--data", images, "--valid", images, "--out", filepath.Join(t.TempDir(), "model"), "--method", "bone", "-o", "rank=4", "--merge", "--dtype", "f32")
	if last := r.Evals[len(r.Evals)-1]; last.Accuracy == nil || *last.Accuracy != 1 {
		t.Errorf("after 100 steps: %+v", last)
	}
	merged, err := checkpoint.OpenFolder(r.Out)
	if err != nil {
		t.Fatal(err)
	}
	defer merged.Close()
	if _, err := merged.Read("preprocessor_config.json"); err != nil {
		t.Error(err)
	}
	m, err := model.LoadClassifier(merged.Config, merged, model.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := &classes{merged, m.Info(), 0}
	s := &data.Samples{}
	if err := c.addImages(s, images); err != nil {
		t.Fatal(err)
	}
	if got := s.Pixels[0]; got < 2.89 || got > 2.92 { // (250/255 − 0.4) / 0.2 = 2.902
		t.Errorf("the first pixel is %g, want 2.902", got)
	}
	if _, right, err := eval.Classes(t.Context(), m, s, 3); err != nil || right != 1 {
		t.Errorf("the merged model tells %g right, %v", right, err)
	}
}
