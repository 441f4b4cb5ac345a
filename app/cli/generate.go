package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"tare/engine/generate"
	"tare/engine/text"
)

// generateV continues a prompt.
type generateV struct {
	Model         string  `arg:"" help:"A model folder, a .safetensors or .gguf file, or bundled."`
	Prompt        string  `required:"" help:"Text to continue; - reads it from standard input."`
	Adapter       string  `placeholder:"DIR" help:"PEFT adapter folder to put on the model."`
	MaxTokens     int     `default:"128" help:"Most tokens to add."`
	Temperature   float64 `default:"0.8" help:"Divides the scores; 0 always takes the likeliest token."`
	TopK          int     `default:"0" help:"Draw among the k likeliest tokens; 0 means all."`
	TopP          float64 `default:"0.95" help:"Draw among the likeliest tokens that together have this probability."`
	Exact         bool    `help:"Multiply packed 4-bit weights in f32, which is slower, rather than with activations rounded to 8 bits."`
	StopAtNewline bool    `help:"End before the first line break."`
}

// Help shows examples.
func (*generateV) Help() string {
	return `The continuation goes to standard output as it comes; the same --seed gives the same text.

Examples:
  tare generate bundled --prompt "The light of the Sun"
  tare generate bundled --prompt - --temperature 0 --max-tokens 40 < prompt.txt`
}

// generated is the result as JSON.
type generated struct {
	Prompt          string  `json:"prompt"`
	Text            string  `json:"text"`
	Tokens          int     `json:"tokens"`
	Seconds         float64 `json:"seconds"`
	TokensPerSecond float64 `json:"tokens_per_second"`
}

// Run implements the verb.
func (v *generateV) Run(a *app) error {
	o := generate.Options{MaxTokens: v.MaxTokens, Temperature: v.Temperature, TopK: v.TopK, TopP: v.TopP, Seed: a.Seed, Exact: v.Exact}
	if err := o.Validate(); err != nil {
		return usagef("%w", err)
	}
	if v.MaxTokens < 1 {
		return usagef("--max-tokens %d, want 1 or more", v.MaxTokens)
	}
	prompt, err := v.prompt(a)
	if err != nil {
		return err
	}
	l, err := loadModel("generate", v.Model, v.Adapter)
	if err != nil {
		return err
	}
	defer l.Close()
	c := l.net.Info()
	ids := l.tok.Encode(prompt)
	if len(ids) == 0 && c.BOS != nil && len(*c.BOS) > 0 {
		ids = []int32{int32((*c.BOS)[0])}
	}
	if len(ids) == 0 {
		return usagef("the prompt is empty and the model has no token that begins a text")
	}
	if c.EOS != nil {
		for _, id := range *c.EOS {
			o.Stop = append(o.Stop, int32(id))
		}
	}
	var result strings.Builder
	out := io.Writer(&result)
	if !a.JSON {
		out = io.MultiWriter(a.out, &result)
	}
	s := newTextStream(l.tok, ids)
	began := time.Now()
	tokens, err := generate.Run(a.ctx, l.net, [][]int32{ids}, o, func(_ int, id int32) bool {
		return v.write(out, s.add(id))
	})
	seconds := time.Since(began).Seconds()
	if err != nil {
		return err
	}
	v.write(out, s.rest())
	n := len(tokens[0])
	r := generated{prompt, result.String(), n, seconds, float64(n) / max(seconds, 1e-9)}
	if a.JSON {
		return a.printJSON(r)
	}
	fmt.Fprintln(a.out)
	a.remark("%d tokens in %.2f s, %.1f a second", n, seconds, r.TokensPerSecond)
	return nil
}

func (v *generateV) prompt(a *app) (string, error) {
	if v.Prompt != "-" {
		return v.Prompt, nil
	}
	raw, err := io.ReadAll(a.in)
	if err != nil {
		return "", fmt.Errorf("prompt from standard input: %w", err)
	}
	return strings.TrimSuffix(string(raw), "\n"), nil
}

// write passes text on and says whether to go on.
func (v *generateV) write(out io.Writer, piece string) bool {
	goOn := true
	if v.StopAtNewline {
		if at := strings.IndexByte(piece, '\n'); at >= 0 {
			piece, goOn = piece[:at], false
		}
	}
	_, err := io.WriteString(out, piece)
	return goOn && err == nil
}

// textStream turns tokens into text as they come. A character may be spread over
// several tokens, and how a token reads may depend on those before it, so a few of
// these are decoded again with each new one, and an unfinished character waits.
type textStream struct {
	tok  *text.Tokenizer
	ids  []int32
	from int // first token that is decoded again
	told int // tokens whose text is out
}

// contextTokens is how many of the prompt's tokens the first new one is read with.
const contextTokens = 8

func newTextStream(tok *text.Tokenizer, prompt []int32) *textStream {
	return &textStream{tok: tok, ids: slices.Clone(prompt), from: max(0, len(prompt)-contextTokens), told: len(prompt)}
}

// add takes a token and returns the text that it completes.
func (s *textStream) add(id int32) string {
	s.ids = append(s.ids, id)
	return s.text(false)
}

// rest returns what is still unfinished.
func (s *textStream) rest() string { return s.text(true) }

func (s *textStream) text(all bool) string {
	before := s.tok.Decode(s.ids[s.from:s.told], true)
	now := s.tok.Decode(s.ids[s.from:], true)
	const unfinished = "\uFFFD"
	if len(now) <= len(before) || !all && strings.HasSuffix(now, unfinished) {
		return ""
	}
	s.from, s.told = s.told, len(s.ids)
	return strings.TrimPrefix(now, before)
}
