package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"tare/engine/data"
	"tare/engine/generate"
	"tare/engine/model"
	"tare/engine/text"
)

// chatVerb talks with a model.
type chatVerb struct {
	Model       string  `arg:"" help:"A model folder, a model file, or bundled."`
	System      string  `help:"What the model is told before the conversation."`
	Adapter     string  `placeholder:"DIR" help:"PEFT adapter folder to put on the model."`
	MaxTokens   int     `default:"256" help:"Most tokens of an answer."`
	Temperature float64 `default:"0.8" help:"Divides the scores; 0 always takes the likeliest token."`
	TopK        int     `default:"0" help:"Draw among the k likeliest tokens; 0 means all."`
	TopP        float64 `default:"0.95" help:"Draw among the likeliest tokens that together have this probability."`
	Exact       bool    `help:"Multiply packed 4-bit weights in f32, which is slower, rather than with activations rounded to 8 bits."`
}

// Help shows examples.
func (*chatVerb) Help() string {
	return `Every line of standard input is a message; the answers go to standard output as they come, in the form of the model's chat template. A model without one is given "User: …" and "Assistant:", a line each. When the conversation gets longer than the model can read, its oldest messages are forgotten. What the model has read of a conversation is kept: an answer begins after reading the new message only.

/reset begins anew, /quit ends, as the end of the input does.

Examples:
  tare chat bundled
  tare chat ./my-model --system "Answer in one sentence." --temperature 0
  echo "What is a prism?" | tare chat ./my-model --json`
}

// chatted is the result as JSON.
type chatted struct {
	Messages        []text.Message `json:"messages"`
	Tokens          int            `json:"tokens"` // that the model wrote
	Seconds         float64        `json:"seconds"`
	TokensPerSecond float64        `json:"tokens_per_second"`
}

// Run implements the verb.
func (v *chatVerb) Run(a *app) error {
	o := generate.Options{MaxTokens: v.MaxTokens, Temperature: v.Temperature, TopK: v.TopK, TopP: v.TopP, Seed: a.Seed, Exact: v.Exact}
	if err := o.Validate(); err != nil {
		return usagef("%w", err)
	}
	if v.MaxTokens < 1 {
		return usagef("--max-tokens %d, want 1 or more", v.MaxTokens)
	}
	l, err := loadModel("chat", v.Model, v.Adapter)
	if err != nil {
		return err
	}
	defer l.Close()
	c := &conversation{app: a, loaded: l, session: generate.NewSession(l.net), options: o, system: v.System}
	if c.chat, err = l.chat(); errors.Is(err, text.ErrNoTemplate) {
		a.remark("The model has no chat template: it is given \"User: …\" and \"Assistant:\", a line each.")
	} else if err != nil {
		return err
	}
	c.options.Stop = l.stops(c.chat)
	c.reset()
	if err := c.run(); err != nil {
		return err
	}
	if a.JSON {
		c.result.Messages = c.said
		c.result.TokensPerSecond = float64(c.result.Tokens) / max(c.result.Seconds, 1e-9)
		return a.printJSON(c.result)
	}
	return nil
}

// chat returns the template beside a model; without one the error is
// text.ErrNoTemplate.
func (l *loaded) chat() (*text.Chat, error) {
	var files [2][]byte
	for i, name := range []string{"tokenizer_config.json", "chat_template.jinja"} {
		raw, err := l.folder.Read(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		files[i] = raw
	}
	c, err := text.ParseChat(files[0], files[1])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.folder.Dir, err)
	}
	return c, nil
}

// turnEnds are tokens that end a message in the templates in use; models name them
// as the end of a text, or only in their generation_config.json.
var turnEnds = []string{"<|im_end|>", "<|eot_id|>", "<end_of_turn>"}

// stops returns the tokens that end an answer.
func (l *loaded) stops(c *text.Chat) []int32 {
	var ids []int32
	if eos := l.net.Info().EOS; eos != nil {
		for _, id := range *eos {
			ids = append(ids, int32(id))
		}
	}
	if raw, err := l.folder.Read("generation_config.json"); err == nil {
		var g struct {
			EOS model.TokenID `json:"eos_token_id"`
		}
		if json.Unmarshal(raw, &g) == nil {
			for _, id := range g.EOS {
				ids = append(ids, int32(id))
			}
		}
	}
	if c != nil {
		for _, token := range append([]string{c.EOS()}, turnEnds...) {
			if id, ok := l.tok.ID(token); ok && token != "" {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// conversation is what was said, and what to go on with.
type conversation struct {
	*app
	*loaded
	chat    *text.Chat        // nil: data.PlainChat
	session *generate.Session // keeps what the model has read
	options generate.Options
	system  string
	said    []text.Message
	result  chatted
}

func (c *conversation) reset() {
	c.said = nil
	if c.system != "" {
		c.said = []text.Message{{Role: "system", Content: c.system}}
	}
}

// run answers lines until there are no more.
func (c *conversation) run() error {
	file, ok := c.in.(*os.File)
	live := ok && term.IsTerminal(int(file.Fd()))
	lines, failed := readLines(c.in)
	for {
		if live && !c.Quiet {
			fmt.Fprint(c.errOut, "> ")
		}
		var line string
		select {
		case <-c.ctx.Done():
			return c.ctx.Err()
		case line, ok = <-lines:
		}
		if !ok {
			return <-failed
		}
		switch line = strings.TrimSpace(line); {
		case line == "":
		case line == "/quit":
			return nil
		case line == "/reset":
			c.reset()
			c.remark("The conversation begins anew.")
		case strings.HasPrefix(line, "/"):
			c.remark("%s is not known; /reset begins anew, /quit ends.", line)
		default:
			if err := c.answer(line); err != nil && !(live && errors.Is(err, generate.ErrTooLong)) {
				return err
			} else if err != nil {
				c.remark("%v", err)
			}
		}
	}
}

// readLines reads lines in the background, so that an interrupt is heard while
// nothing comes; the program's end ends it.
func readLines(in io.Reader) (<-chan string, <-chan error) {
	lines, failed := make(chan string), make(chan error, 1)
	go func() {
		defer close(lines)
		r := bufio.NewReader(in)
		for {
			line, err := r.ReadString('\n')
			if line != "" {
				lines <- line
			}
			if err == io.EOF {
				err = nil
				failed <- nil
				return
			}
			if err != nil {
				failed <- fmt.Errorf("standard input: %w", err)
				return
			}
		}
	}()
	return lines, failed
}

// answer takes a message and writes the model's.
func (c *conversation) answer(message string) error {
	c.said = append(c.said, text.Message{Role: "user", Content: message})
	ids, err := c.prompt()
	if err != nil {
		c.said = c.said[:len(c.said)-1]
		return err
	}
	out := io.Discard
	if !c.JSON {
		out = c.out
	}
	var answer strings.Builder
	stream := newTextStream(c.tok, ids)
	write := func(piece string) bool {
		goOn := true
		if answer.Len() == 0 {
			piece = strings.TrimLeft(piece, " \n")
		}
		if c.chat == nil { // a line is a message
			if i := strings.IndexByte(piece, '\n'); i >= 0 {
				piece, goOn = piece[:i], false
			}
		}
		answer.WriteString(piece)
		_, err := io.WriteString(out, piece)
		return goOn && err == nil
	}
	began := time.Now()
	tokens, err := c.session.Run(c.ctx, [][]int32{ids}, c.options, func(_ int, id int32) bool {
		return slices.Contains(c.options.Stop, id) || write(stream.add(id))
	})
	if err != nil {
		return err
	}
	write(stream.rest())
	seconds := time.Since(began).Seconds()
	fmt.Fprintln(out)
	n := len(tokens[0])
	c.remark("%d tokens in %.2f s, %.1f a second", n, seconds, float64(n)/max(seconds, 1e-9))
	c.said = append(c.said, text.Message{Role: "assistant", Content: strings.TrimSpace(answer.String())})
	c.result.Tokens += n
	c.result.Seconds += seconds
	c.options.Seed++ // another answer to the same words
	return nil
}

// prompt returns the conversation's tokens, forgetting its oldest messages until
// they leave the model room for an answer.
func (c *conversation) prompt() ([]int32, error) {
	positions := c.net.Info().MaxPositions
	room := positions - min(c.options.MaxTokens, positions/4)
	forgot := 0
	for {
		ids, err := c.render()
		if err != nil {
			return nil, err
		}
		oldest := 0
		if c.system != "" {
			oldest = 1
		}
		next := oldest + 2 // a message and its answer
		if len(ids) <= room || next >= len(c.said) {
			if forgot > 0 {
				c.remark("The oldest %d messages are forgotten: the model reads at most %d tokens.", forgot, positions)
			}
			return ids, nil
		}
		c.said = slices.Delete(c.said, oldest, next)
		forgot += 2
	}
}

// render writes the conversation as tokens.
func (c *conversation) render() ([]int32, error) {
	if c.chat == nil {
		s, err := data.PlainChat(c.said)
		return c.tok.Encode(s), err
	}
	s, err := c.chat.Render(c.said, true)
	if err != nil {
		return nil, badInput{err}
	}
	return c.tok.EncodeOrdinary(s), nil
}
