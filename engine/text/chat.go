package text

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"tare/engine/text/jinja"
)

// ErrNoTemplate marks a tokenizer_config.json without a chat template.
var ErrNoTemplate = errors.New("there is no chat template")

// Message is what one side of a conversation says. Role is "system", "user" or
// "assistant", or what else a template knows.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Chat writes a conversation as the text that a chat model was tuned on, by the
// template that comes with it. The text has its special tokens in it, so it is
// encoded with Tokenizer.EncodeOrdinary. It is safe for concurrent use.
type Chat struct {
	template  *jinja.Template
	variables map[string]any
	// Now is the date that a template may write; the zero value is the day of the call.
	Now time.Time
}

// NewChat reads a template in Jinja. bos and eos are the tokens that begin and end
// a text, "" where there is none.
func NewChat(template, bos, eos string) (*Chat, error) {
	t, err := jinja.Parse(template)
	if err != nil {
		return nil, fmt.Errorf("text: chat template: %w: %w", err, ErrFormat)
	}
	return &Chat{template: t, variables: map[string]any{"bos_token": bos, "eos_token": eos}}, nil
}

// specialNames are the keys of tokenizer_config.json with tokens, which templates
// may use.
var specialNames = []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}

// ParseChat reads the chat template of a tokenizer_config.json. template is the
// content of a chat_template.jinja beside it, which counts before the one inside;
// nil for none. Where there is no template the error is ErrNoTemplate.
func ParseChat(tokenizerConfig, template []byte) (*Chat, error) {
	config := map[string]json.RawMessage{}
	if len(tokenizerConfig) > 0 {
		if err := unmarshal("tokenizer_config.json", tokenizerConfig, &config, 0); err != nil {
			return nil, fmt.Errorf("text: %w", err)
		}
	}
	source := string(template)
	if len(template) == 0 {
		var err error
		if source, err = templateOf(config["chat_template"]); err != nil {
			return nil, fmt.Errorf("text: tokenizer_config.json: %w", err)
		}
	}
	c, err := NewChat(source, "", "")
	if err != nil {
		return nil, err
	}
	for _, name := range specialNames {
		token, err := specialToken(config[name])
		if err != nil {
			return nil, fmt.Errorf("text: tokenizer_config.json: %s: %w", name, err)
		}
		if token != "" {
			c.variables[name] = token
		}
	}
	return c, nil
}

// templateOf reads the template: a string, or a list of named ones, of which the one
// called default counts.
func templateOf(raw json.RawMessage) (string, error) {
	if isNull(raw) {
		return "", ErrNoTemplate
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return one, nil
	}
	var many []struct{ Name, Template string }
	if err := unmarshal("chat_template", raw, &many, 0); err != nil {
		return "", err
	}
	for _, t := range many {
		if t.Name == "default" {
			return t.Template, nil
		}
	}
	return "", fmt.Errorf("chat_template has no template with the name \"default\": %w", ErrNoTemplate)
}

// specialToken reads a token: a string, or an object with its content.
func specialToken(raw json.RawMessage) (string, error) {
	if isNull(raw) {
		return "", nil
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s, nil
	}
	var object struct {
		Content string `json:"content"`
	}
	if err := json.Unmarshal(raw, &object); err != nil {
		return "", malformed("%.60q is neither a string nor an object with content", raw)
	}
	return object.Content, nil
}

// EOS returns the token that ends a text, "" where there is none.
func (c *Chat) EOS() string {
	s, _ := c.variables["eos_token"].(string)
	return s
}

// Render writes a conversation; generate adds the words with which the assistant's
// next message begins. Errors name the line of the template.
func (c *Chat) Render(messages []Message, generate bool) (string, error) {
	list := make([]any, len(messages))
	for i, m := range messages {
		d := jinja.NewDict()
		d.Set("role", m.Role)
		d.Set("content", m.Content)
		list[i] = d
	}
	variables := map[string]any{"messages": list, "add_generation_prompt": generate, "tools": nil, "documents": nil}
	for name, token := range c.variables {
		variables[name] = token
	}
	now := c.Now
	if now.IsZero() {
		now = time.Now()
	}
	s, err := c.template.Render(variables, now)
	if err != nil {
		return "", fmt.Errorf("text: chat template: %w", err)
	}
	return s, nil
}
