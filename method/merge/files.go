package merge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"tare/engine/checkpoint"
	"tare/engine/text"
)

// writeFiles writes what stands beside the weights.
func (m *merger) writeFiles(w *checkpoint.FolderWriter, report Report) error {
	config, err := m.config()
	if err != nil {
		return err
	}
	if config != nil {
		if err := w.File("config.json", config); err != nil {
			return err
		}
	}
	if err := m.writeTokenizer(w); err != nil {
		return err
	}
	provenance, err := m.provenance(report)
	if err != nil {
		return err
	}
	if err := w.File(ProvenanceFile, provenance); err != nil {
		return err
	}
	return w.File("README.md", m.card(report))
}

// writeTokenizer copies the tokenizer's files, less those that further tokens or
// another chat template make wrong.
func (m *merger) writeTokenizer(w *checkpoint.FolderWriter) error {
	from, made := m.lead, map[string][]byte{}
	if m.align != nil {
		from = m.align.from
		if m.align.file != nil {
			made["tokenizer.json"] = m.align.file
		}
	}
	config, err := m.tokenizerConfig(from)
	if err != nil {
		return err
	}
	if config != nil {
		made["tokenizer_config.json"] = config
	}
	var copied []string
	for _, name := range checkpoint.AuxiliaryFiles() {
		stale := made["tokenizer.json"] != nil && slices.Contains([]string{"vocab.json", "vocab.txt", "merges.txt", "tokenizer.model"}, name) ||
			m.chat != "" && name == "chat_template.jinja"
		if !stale && made[name] == nil {
			copied = append(copied, name)
		}
	}
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		if made[name] != nil {
			if err := w.File(name, made[name]); err != nil {
				return err
			}
		}
	}
	return w.CopyFrom(from.Folder, copied...)
}

// tokenizerConfig returns tokenizer_config.json with the recipe's chat template and the
// tokens that were added, nil where neither is.
func (m *merger) tokenizerConfig(from *input) ([]byte, error) {
	var added []addedToken
	if m.align != nil {
		added = m.align.added
	}
	if m.chat == "" && added == nil {
		return nil, nil
	}
	config := map[string]any{}
	data, err := from.Read("tokenizer_config.json")
	if err == nil {
		err = json.Unmarshal(data, &config)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("merge: model %s: tokenizer_config.json: %w", from.name, err)
	}
	if m.chat != "" {
		config["chat_template"] = m.chat
	}
	if decoder, ok := config["added_tokens_decoder"].(map[string]any); ok {
		for _, t := range added {
			entry := map[string]any{"content": t.Content, "special": false, "single_word": false, "lstrip": false, "rstrip": false, "normalized": true}
			for key, raw := range t.raw {
				if _, ok := entry[key]; ok && key != "content" {
					var v any
					if err := json.Unmarshal(raw, &v); err != nil {
						return nil, fmt.Errorf("merge: tokenizer.json: added_tokens: %w", err)
					}
					entry[key] = v
				}
			}
			decoder[fmt.Sprint(t.ID)] = entry
		}
	}
	data, err = json.MarshalIndent(config, "", "  ")
	return append(data, '\n'), err
}

// chatTemplates are the formats that chat_template may name.
var chatTemplates = map[string]string{
	"chatml": "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>\\n' }}{% endfor %}" +
		"{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
	"llama3": "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}" +
		"{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
	"alpaca": "{% for message in messages %}{% if message['role'] == 'user' %}{{ '### Instruction:\\n' + message['content'] | trim + '\\n\\n' }}" +
		"{% elif message['role'] == 'assistant' %}{{ '### Response:\\n' + message['content'] | trim + eos_token + '\\n\\n' }}" +
		"{% else %}{{ message['content'] | trim + '\\n\\n' }}{% endif %}{% endfor %}" +
		"{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}",
	"mistral": "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}{{ ' ' + message['content'] | trim + eos_token }}" +
		"{% else %}{{ '[INST] ' + message['content'] | trim + ' [/INST]' }}{% endif %}{% endfor %}",
}

// chooseChat settles the chat template: the models' most frequent, a known format, or
// the text itself.
func (m *merger) chooseChat() error {
	chat := m.recipe.Chat
	switch known := chatTemplates[chat]; {
	case chat == "":
		return nil
	case chat == "auto":
		m.chat = m.frequentChat()
		if m.chat == "" {
			m.warnings = append(m.warnings, "chat_template: auto found no template in any model")
		}
		return nil
	case known != "":
		m.chat = known
	case strings.Contains(chat, "{"):
		m.chat = chat
	default:
		return fmt.Errorf("merge: %w: chat_template: %q is neither auto, the name of a known template (alpaca, chatml, llama3, mistral) nor a template", ErrRecipe, chat)
	}
	if _, err := text.NewChat(m.chat, "", ""); err != nil {
		return fmt.Errorf("merge: %w: chat_template: %w", ErrRecipe, err)
	}
	return nil
}

// frequentChat returns the template that most models have, the earlier of equals.
func (m *merger) frequentChat() (best string) {
	count := map[string]int{}
	for _, in := range m.opened {
		own := ""
		if data, err := in.Read("chat_template.jinja"); err == nil {
			own = string(data)
		} else if data, err := in.Read("tokenizer_config.json"); err == nil {
			var config struct {
				Template any `json:"chat_template"`
			}
			if json.Unmarshal(data, &config) == nil {
				own, _ = config.Template.(string)
			}
		}
		if own = strings.TrimSpace(own); own == "" {
			continue
		}
		if count[own]++; count[own] > count[best] {
			best = own
		}
	}
	return best
}
