-- The built-in roles. A site may change them; running this again changes nothing that is there.
INSERT INTO roles (name, description, is_builtin) VALUES
    ('viewer', 'Watches and chats; everybody with an account has it', true),
    ('streamer', 'Makes streams of their own', true),
    ('owner', 'What the owner of a stream may do on it; grant it on one stream for a co-host', true),
    ('moderator', 'Keeps order; grant it on one stream, or everywhere for staff', true),
    ('admin', 'Everything', true)
ON CONFLICT (name) DO NOTHING;

INSERT INTO role_permissions (role_id, permission)
SELECT roles.id, held.permission
FROM (VALUES
    ('viewer', 'stream.watch'), ('viewer', 'chat.read'), ('viewer', 'chat.write'),
    ('streamer', 'stream.create'),
    ('owner', 'stream.*'), ('owner', 'recording.*'), ('owner', 'chat.*'), ('owner', 'viewer.*'),
    ('moderator', 'chat.*'), ('moderator', 'viewer.*'),
    ('admin', '*')
) AS held (role, permission)
JOIN roles ON roles.name = held.role AND roles.is_builtin AND roles.customized_at IS NULL
ON CONFLICT DO NOTHING;

INSERT INTO role_parents (role_id, parent_id)
SELECT child.id, parent.id
FROM (VALUES ('streamer', 'viewer'), ('moderator', 'viewer')) AS inherits (role, parent)
JOIN roles AS child ON child.name = inherits.role AND child.is_builtin AND child.customized_at IS NULL
JOIN roles AS parent ON parent.name = inherits.parent
ON CONFLICT DO NOTHING;
