package text

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// conversation is ["role", "content"] of every message.
type conversation [][2]string

func (c conversation) messages() []Message {
	var out []Message
	for _, m := range c {
		out = append(out, Message{m[0], m[1]})
	}
	return out
}

func TestConversationsAreTheReferences(t *testing.T) {
	var g struct {
		Templates     map[string]string
		Conversations []conversation
		Rendered      map[string][]*string // by conversation, without and with generate; nil: an error
	}
	readJSON(t, "chat.json", &g)
	if len(g.Templates) < 5 {
		t.Fatalf("chat.json has %d templates", len(g.Templates))
	}
	for name, source := range g.Templates {
		c, err := NewChat(source, "<s>", "</s>")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkRendered(t, name, c, g.Conversations, g.Rendered[name])
	}
}

func checkRendered(t *testing.T, name string, c *Chat, conversations []conversation, rendered []*string) {
	t.Helper()
	for i, want := range rendered {
		got, err := c.Render(conversations[i/2].messages(), i%2 == 1)
		switch {
		case want == nil && err == nil:
			t.Errorf("%s: %q gives %q, want an error", name, conversations[i/2], got)
		case want == nil && !strings.Contains(err.Error(), "line "):
			t.Errorf("%s: %v names no line", name, err)
		case want != nil && (err != nil || got != *want):
			t.Errorf("%s: %q gives %q, %v, want %q", name, conversations[i/2], got, err, *want)
		}
	}
}

// The templates of models in use, beside their tokenizers.
func TestRealTemplates(t *testing.T) {
	dir := os.Getenv(realFolder)
	if dir == "" {
		t.Skipf("%s names no folder that parity/text_real.py filled", realFolder)
	}
	var g struct {
		Conversations []conversation
		Rendered      map[string][]*string
	}
	unmarshalFile(t, filepath.Join(dir, "chat.json"), &g)
	for name, rendered := range g.Rendered {
		config, err := os.ReadFile(filepath.Join(dir, name+".tokenizer_config.json"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := ParseChat(config, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkRendered(t, name, c, g.Conversations, rendered)
	}
}

func TestParseChat(t *testing.T) {
	hi := []Message{{"user", "hi"}}
	for _, c := range []struct{ config, template, want string }{
		{`{"chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", "bos_token": "<s>", "eos_token": {"content": "</s>"}}`, "", "<s>hi</s>"},
		{`{"chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "{{ messages[0].role }}"}]}`, "", "user"},
		{`{"chat_template": "no", "bos_token": "B"}`, "{{ bos_token }}{{ add_generation_prompt }}", "BTrue"},
		{``, "{{ eos_token }}x", "x"},
		{`{"bos_token": null, "chat_template": "{{ bos_token }}{{ pad_token is defined }}{{ tools is none }}"}`, "", "FalseTrue"},
	} {
		chat, err := ParseChat([]byte(c.config), []byte(c.template))
		if err != nil {
			t.Errorf("%s: %v", c.config, err)
			continue
		}
		if got, err := chat.Render(hi, true); err != nil || got != c.want {
			t.Errorf("%s: %q, %v, want %q", c.config, got, err, c.want)
		}
	}
	for config, want := range map[string]error{
		`{}`: ErrNoTemplate, `{"chat_template": []}`: ErrNoTemplate, `{"chat_template": 3}`: ErrFormat, `[]`: ErrFormat,
		`{"chat_template": "{{"}`: ErrFormat, `{"chat_template": "x", "bos_token": 3}`: ErrFormat,
	} {
		if _, err := ParseChat([]byte(config), nil); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", config, err, want)
		}
	}
}
