package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"tare/engine/data"
	"tare/engine/model"
	"tare/engine/text"
)

// ErrTask marks a task that cannot be measured as it is written.
var ErrTask = errors.New("bad task")

// The kinds of a Task.
const (
	Perplexity     = "perplexity"      // how likely texts are
	MultipleChoice = "multiple_choice" // which of an item's choices is likeliest
	Exact          = "exact_match"     // whether the greedy answer is the right one
	Classification = "classification"  // which of the task's labels is likeliest
)

// Task is questions with what is right, measured in the manner of EleutherAI's
// lm-evaluation-harness. With ℓ(y | x) the summed log-likelihood of the tokens of y after
// those of x, an item with context x and choices c₁ … c_k is answered by
//
//	acc       argmaxᵢ ℓ(delimiter·cᵢ | x)
//	acc_norm  argmaxᵢ ℓ(delimiter·cᵢ | x) / bytes(cᵢ)
//
// the first of equals. (The harness divides by characters; in ASCII these are bytes.) A
// classification is the same over the task's labels, and has acc alone. Context and
// continuation are encoded together, without special tokens, and cut where the tokens of
// the context alone end; spaces at the end of the context belong to the continuation; an
// empty context is the model's first token (bos, else eos); what is too long loses its
// beginning. Texts are measured in windows that score every token once, the first after
// the model's first token:
//
//	word_perplexity exp(−Σℓ / words)   byte_perplexity exp(−Σℓ / bytes)   bits_per_byte −Σℓ / (bytes ln 2)
type Task struct {
	Name      string   `yaml:"name"`
	Kind      string   `yaml:"kind"`
	Data      string   `yaml:"data"`      // file of items, beside the task's file
	Items     []Item   `yaml:"items"`     // or here
	Labels    []string `yaml:"labels"`    // of a classification
	Template  string   `yaml:"template"`  // of a classification: the context, with {text} for an item's; without it the text itself
	Delimiter *string  `yaml:"delimiter"` // between context and choice; without it a space
}

// Item is one question of a Task; a kind reads the fields that it names.
type Item struct {
	Text       string   `yaml:"text" json:"text"`             // perplexity, classification
	Label      string   `yaml:"label" json:"label"`           // classification: one of the labels
	Prompt     string   `yaml:"prompt" json:"prompt"`         // exact_match
	Completion string   `yaml:"completion" json:"completion"` // exact_match
	Context    string   `yaml:"context" json:"context"`       // multiple_choice
	Choices    []string `yaml:"choices" json:"choices"`       // multiple_choice
	Answer     any      `yaml:"answer" json:"answer"`         // multiple_choice: the right choice, or its number from 0
}

// Metric is one figure of a task. StdErr is the standard error of a mean over items, 0
// where there is none.
type Metric struct {
	Name          string
	Value, StdErr float64
}

// TaskResult is what a task came to.
type TaskResult struct {
	Name, Kind string
	Items      int
	Metrics    []Metric
}

// answer returns the number of the right choice.
func (i Item) answer() (int, error) {
	at := -1
	switch a := i.Answer.(type) {
	case string:
		at = slices.Index(i.Choices, a)
	case int:
		at = a
	case uint64: // as YAML reads it
		at = int(min(a, math.MaxInt32))
	case int64:
		at = int(a)
	case float64: // as JSON reads it
		if a == math.Trunc(a) && math.Abs(a) < math.MaxInt32 {
			at = int(a)
		}
	}
	if at < 0 || at >= len(i.Choices) {
		return 0, fmt.Errorf("answer %v is neither one of the %d choices nor the number of one, from 0: %w", i.Answer, len(i.Choices), ErrTask)
	}
	return at, nil
}

// Validate says what of a task cannot be measured.
func (t *Task) Validate() error {
	kinds := []string{Perplexity, MultipleChoice, Exact, Classification}
	if !slices.Contains(kinds, t.Kind) {
		return fmt.Errorf("eval: task %s: kind is %q, want %s: %w", t.Name, t.Kind, strings.Join(kinds, ", "), ErrTask)
	}
	if len(t.Items) == 0 {
		return fmt.Errorf("eval: task %s has no items: %w", t.Name, ErrTask)
	}
	if t.Kind == Classification && len(t.Labels) < 2 {
		return fmt.Errorf("eval: task %s: %d labels, a classification needs at least 2: %w", t.Name, len(t.Labels), ErrTask)
	}
	if t.Template != "" && !strings.Contains(t.Template, textMark) {
		return fmt.Errorf("eval: task %s: its template has no %s: %w", t.Name, textMark, ErrTask)
	}
	for n, i := range t.Items {
		var err error
		switch t.Kind {
		case Perplexity:
			if i.Text == "" {
				err = fmt.Errorf("no text: %w", ErrTask)
			}
		case Exact:
			if i.Prompt == "" || i.Completion == "" {
				err = fmt.Errorf("no prompt and completion: %w", ErrTask)
			}
		case MultipleChoice:
			if _, err = i.answer(); err == nil && slices.Contains(i.Choices, "") {
				err = fmt.Errorf("an empty choice: %w", ErrTask)
			}
		case Classification:
			if !slices.Contains(t.Labels, i.Label) {
				err = fmt.Errorf("label %q is none of the task's (%s): %w", i.Label, strings.Join(t.Labels, ", "), ErrTask)
			}
		}
		if err != nil {
			return fmt.Errorf("eval: task %s: item %d: %w", t.Name, n+1, err)
		}
	}
	return nil
}

// Measure runs the task. window is the most tokens that the model is given at once; 0 is
// its positions.
func (t *Task) Measure(ctx context.Context, m model.Causal, tok *text.Tokenizer, window int, progress func(done, total int)) (TaskResult, error) {
	r := TaskResult{Name: t.Name, Kind: t.Kind, Items: len(t.Items)}
	if err := t.Validate(); err != nil {
		return r, err
	}
	if positions := m.Info().MaxPositions; window == 0 || window > positions {
		window = positions
	}
	s := &scorer{m: m, tok: tok, window: window, progress: progress}
	var err error
	switch t.Kind {
	case Perplexity:
		r.Metrics, err = t.perplexity(ctx, s)
	case Exact:
		questions := make([]Question, len(t.Items))
		for i, item := range t.Items {
			questions[i] = Question{item.Prompt, item.Completion}
		}
		var share float64
		share, err = ExactMatch(ctx, m, tok, questions, progress)
		r.Metrics = []Metric{proportion("exact_match", share, len(t.Items))}
	default:
		r.Metrics, err = t.choose(ctx, s)
	}
	if err != nil {
		return r, fmt.Errorf("eval: task %s: %w", t.Name, err)
	}
	return r, nil
}

// textMark is where a template has an item's text.
const textMark = "{text}"

// question returns an item's context, choices and the number of the right one.
func (t *Task) question(i Item) (context string, choices []string, right int) {
	if t.Kind == MultipleChoice {
		right, _ = i.answer()
		return i.Context, i.Choices, right
	}
	context = i.Text
	if t.Template != "" {
		context = strings.ReplaceAll(t.Template, textMark, i.Text)
	}
	return context, t.Labels, slices.Index(t.Labels, i.Label)
}

// choose answers every item by the likeliest choice.
func (t *Task) choose(ctx context.Context, s *scorer) ([]Metric, error) {
	delimiter := " "
	if t.Delimiter != nil {
		delimiter = *t.Delimiter
	}
	var requests []request
	for n, i := range t.Items {
		context, choices, _ := t.question(i)
		for _, c := range choices {
			r, err := s.pair(context, delimiter+c)
			if err != nil {
				return nil, fmt.Errorf("item %d: %w", n+1, err)
			}
			requests = append(requests, r)
		}
	}
	likelihoods, err := s.score(ctx, requests)
	if err != nil {
		return nil, err
	}
	var acc, norm float64
	for _, i := range t.Items {
		_, choices, right := t.question(i)
		byByte := make([]float64, len(choices))
		for k, c := range choices {
			byByte[k] = likelihoods[k] / float64(len(c))
		}
		if first(likelihoods[:len(choices)]) == right {
			acc++
		}
		if first(byByte) == right {
			norm++
		}
		likelihoods = likelihoods[len(choices):]
	}
	n := len(t.Items)
	metrics := []Metric{proportion("acc", acc/float64(n), n)}
	if t.Kind == MultipleChoice {
		metrics = append(metrics, proportion("acc_norm", norm/float64(n), n))
	}
	return metrics, nil
}

// first returns the first place of the largest number.
func first(v []float64) int {
	best := 0
	for i := range v {
		if v[i] > v[best] {
			best = i
		}
	}
	return best
}

// proportion is the mean of n zeros and ones, with the standard error √(p(1−p)/(n−1)).
func proportion(name string, p float64, n int) Metric {
	m := Metric{Name: name, Value: p}
	if n > 1 {
		m.StdErr = math.Sqrt(p * (1 - p) / float64(n-1))
	}
	return m
}

// spaces separates words.
var spaces = regexp.MustCompile(`[\s\p{Z}]+`)

func (t *Task) perplexity(ctx context.Context, s *scorer) ([]Metric, error) {
	var requests []request
	var words, bytes float64
	for _, i := range t.Items {
		requests = append(requests, s.windows(i.Text)...)
		words += float64(len(spaces.Split(i.Text, -1)))
		bytes += float64(len(i.Text))
	}
	if len(requests) == 0 {
		return nil, fmt.Errorf("no token to predict: %w", data.ErrEmpty)
	}
	likelihoods, err := s.score(ctx, requests)
	if err != nil {
		return nil, err
	}
	var sum float64
	for _, l := range likelihoods {
		sum += l
	}
	return []Metric{
		{Name: "word_perplexity", Value: math.Exp(-sum / words)},
		{Name: "byte_perplexity", Value: math.Exp(-sum / bytes)},
		{Name: "bits_per_byte", Value: -sum / bytes / math.Ln2},
	}, nil
}

// trimSpace cuts the spaces off the end of a context, as they belong to what follows.
func trimSpace(context string) (trimmed, space string) {
	trimmed = strings.TrimRightFunc(context, unicode.IsSpace)
	return trimmed, context[len(trimmed):]
}
