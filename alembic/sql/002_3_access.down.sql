DROP TABLE external_identities;
DROP TABLE api_keys;
DROP TABLE access_versions;
DROP TABLE role_grants;
DROP TABLE role_parents;
DROP TABLE role_permissions;
DROP TABLE roles;
DROP TABLE access_state;
