-- The schema of version 0.1.0, as mysqldump writes it.
SET FOREIGN_KEY_CHECKS = 0;
CREATE TABLE `accounts` (
  `id` bigint(20) NOT NULL AUTO_INCREMENT,
  `username` varchar(255) NOT NULL,
  `account_type` varchar(16) NOT NULL,
  `manager_group_id` bigint(20) DEFAULT NULL,
  `show_only_assigned_users` tinyint(1) NOT NULL DEFAULT 0,
  `version` bigint(20) NOT NULL DEFAULT 1,
  `create_time` bigint(20) NOT NULL,
  `update_time` bigint(20) NOT NULL,
  `currency_id` bigint(20) DEFAULT NULL,
  `call_limit` int(11) NOT NULL DEFAULT 0,
  `hidden` tinyint(1) NOT NULL DEFAULT 0,
  `responsible_manager_id` bigint(20) DEFAULT NULL,
  `hide_non_answered_calls` tinyint(1) NOT NULL DEFAULT 0,
  `blocked` tinyint(1) NOT NULL DEFAULT 0,
  `block_date` date DEFAULT NULL,
  `block_conditional_use` tinyint(1) NOT NULL DEFAULT 0,
  `vat_number` varchar(255) NOT NULL DEFAULT '',
  `clientid` varchar(255) NOT NULL DEFAULT '',
  `first_name` varchar(255) NOT NULL DEFAULT '',
  `last_name` varchar(255) NOT NULL DEFAULT '',
  `accounting_number` varchar(255) NOT NULL DEFAULT '',
  `agreement_number` varchar(255) NOT NULL DEFAULT '',
  `language` varchar(10) NOT NULL DEFAULT '',
  `agreement_date` date DEFAULT NULL,
  `taxation_country` bigint(20) DEFAULT NULL,
  `address` varchar(255) NOT NULL DEFAULT '',
  `city` varchar(255) NOT NULL DEFAULT '',
  `postcode` varchar(255) NOT NULL DEFAULT '',
  `county` varchar(255) NOT NULL DEFAULT '',
  `state` varchar(255) NOT NULL DEFAULT '',
  `mob_phone` varchar(255) NOT NULL DEFAULT '',
  `phone` varchar(255) NOT NULL DEFAULT '',
  `fax` varchar(255) NOT NULL DEFAULT '',
  `direction_id` bigint(20) DEFAULT NULL,
  `email` varchar(255) NOT NULL DEFAULT '',
  `warning_email_active` tinyint(1) NOT NULL DEFAULT 0,
  `warning_email_balance` bigint(20) NOT NULL DEFAULT 0,
  `warning_email_hour` int(11) NOT NULL DEFAULT -1,
  `tax1_name` varchar(255) NOT NULL DEFAULT '',
  `tax2_name` varchar(255) NOT NULL DEFAULT '',
  `tax3_name` varchar(255) NOT NULL DEFAULT '',
  `tax4_name` varchar(255) NOT NULL DEFAULT '',
  `tax1_value` bigint(20) NOT NULL DEFAULT 0,
  `tax2_value` bigint(20) NOT NULL DEFAULT 0,
  `tax3_value` bigint(20) NOT NULL DEFAULT 0,
  `tax4_value` bigint(20) NOT NULL DEFAULT 0,
  `tax2_enabled` tinyint(1) NOT NULL DEFAULT 0,
  `tax3_enabled` tinyint(1) NOT NULL DEFAULT 0,
  `tax4_enabled` tinyint(1) NOT NULL DEFAULT 0,
  `generate_invoice` tinyint(1) NOT NULL DEFAULT 0,
  `enable_static_source_list` varchar(16) NOT NULL DEFAULT 'no',
  `enable_static_list` varchar(16) NOT NULL DEFAULT 'no',
  `static_source_list_id` bigint(20) DEFAULT NULL,
  `static_list_id` bigint(20) DEFAULT NULL,
  `comment` text NOT NULL,
  PRIMARY KEY (`id`),
  UNIQUE KEY `username` (`username`),
  KEY `accounts_manager_group_id_fk` (`manager_group_id`),
  KEY `accounts_currency_id_fk` (`currency_id`),
  KEY `accounts_taxation_country_fk` (`taxation_country`),
  KEY `accounts_direction_id_fk` (`direction_id`),
  KEY `accounts_static_source_list_id_fk` (`static_source_list_id`),
  KEY `accounts_static_list_id_fk` (`static_list_id`),
  KEY `accounts_responsible_manager_idx` (`responsible_manager_id`,`id`),
  KEY `accounts_email_idx` (`email`,`id`),
  KEY `accounts_blocked_idx` (`blocked`,`id`),
  KEY `accounts_hidden_idx` (`hidden`,`id`),
  KEY `accounts_update_time_idx` (`update_time`,`id`),
  CONSTRAINT `accounts_currency_id_fk` FOREIGN KEY (`currency_id`) REFERENCES `currencies` (`id`),
  CONSTRAINT `accounts_direction_id_fk` FOREIGN KEY (`direction_id`) REFERENCES `directions` (`id`),
  CONSTRAINT `accounts_manager_group_id_fk` FOREIGN KEY (`manager_group_id`) REFERENCES `manager_groups` (`id`),
  CONSTRAINT `accounts_responsible_manager_id_fk` FOREIGN KEY (`responsible_manager_id`) REFERENCES `accounts` (`id`),
  CONSTRAINT `accounts_static_list_id_fk` FOREIGN KEY (`static_list_id`) REFERENCES `number_pools` (`id`),
  CONSTRAINT `accounts_static_source_list_id_fk` FOREIGN KEY (`static_source_list_id`) REFERENCES `number_pools` (`id`),
  CONSTRAINT `accounts_taxation_country_fk` FOREIGN KEY (`taxation_country`) REFERENCES `directions` (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
CREATE TABLE `change_log` (
  `id` bigint(20) NOT NULL AUTO_INCREMENT,
  `user_id` bigint(20) NOT NULL,
  `version` bigint(20) NOT NULL,
  `change_time` bigint(20) NOT NULL,
  `actor_id` bigint(20) DEFAULT NULL,
  `service` varchar(255) DEFAULT NULL,
  `door` varchar(16) NOT NULL,
  `changes` longtext NOT NULL CHECK (json_valid(`changes`)),
  `address` varchar(64) NOT NULL DEFAULT '',
  `reason` varchar(255) NOT NULL DEFAULT '',
  `request_id` varchar(36) NOT NULL DEFAULT '',
  `traceparent` varchar(55) NOT NULL DEFAULT '',
  `identity` varchar(255) NOT NULL DEFAULT '',
  PRIMARY KEY (`id`),
  KEY `change_log_user_idx` (`user_id`,`id`),
  KEY `change_log_actor_idx` (`actor_id`,`id`),
  KEY `change_log_time_idx` (`change_time`,`id`),
  KEY `change_log_service_idx` (`service`,`id`),
  CONSTRAINT `change_log_actor_id_fk` FOREIGN KEY (`actor_id`) REFERENCES `accounts` (`id`),
  CONSTRAINT `change_log_user_id_fk` FOREIGN KEY (`user_id`) REFERENCES `accounts` (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
CREATE TABLE `currencies` (
  `id` bigint(20) NOT NULL AUTO_INCREMENT,
  `name` varchar(3) NOT NULL,
  PRIMARY KEY (`id`),
  UNIQUE KEY `name` (`name`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
CREATE TABLE `directions` (
  `id` bigint(20) NOT NULL AUTO_INCREMENT,
  `name` varchar(255) NOT NULL,
  PRIMARY KEY (`id`),
  UNIQUE KEY `name` (`name`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
CREATE TABLE `manager_group_rights` (
  `manager_group_id` bigint(20) NOT NULL,
  `name` varchar(64) NOT NULL,
  `level` varchar(16) NOT NULL,
  PRIMARY KEY (`manager_group_id`,`name`),
  CONSTRAINT `manager_group_rights_manager_group_id_fk` FOREIGN KEY (`manager_group_id`) REFERENCES `manager_groups` (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
CREATE TABLE `manager_groups` (
  `id` bigint(20) NOT NULL AUTO_INCREMENT,
  `name` varchar(255) NOT NULL,
  PRIMARY KEY (`id`),
  UNIQUE KEY `name` (`name`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
CREATE TABLE `number_pools` (
  `id` bigint(20) NOT NULL AUTO_INCREMENT,
  `name` varchar(255) NOT NULL,
  PRIMARY KEY (`id`),
  UNIQUE KEY `name` (`name`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
CREATE TABLE `requests` (
  `id` varchar(36) NOT NULL,
  `content` varchar(40) NOT NULL,
  `answer_time` bigint(20) NOT NULL,
  `answer` longtext NOT NULL CHECK (json_valid(`answer`)),
  PRIMARY KEY (`id`),
  KEY `requests_time_idx` (`answer_time`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
CREATE TABLE `seaql_migrations` (
  `version` varchar(255) NOT NULL,
  `applied_at` bigint(20) NOT NULL,
  PRIMARY KEY (`version`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
INSERT INTO `seaql_migrations` VALUES
('m0001_currencies',1795952180),
('m0002_directions',1795952180),
('m0003_number_pools',1795952180),
('m0004_manager_groups',1795952180),
('m0005_manager_group_rights',1795952180),
('m0006_accounts',1795952180),
('m0007_accounts_responsible_manager',1795952180),
('m0008_settings',1795952180),
('m0009_change_log',1795952180),
('m0010_change_log_user',1795952180),
('m0011_change_log_actor',1795952180),
('m0012_change_log_address',1795952180),
('m0013_change_log_reason',1795952180),
('m0014_change_log_request_id',1795952180),
('m0020_accounts_username_order',1795952180),
('m0021_accounts_email',1795952180),
('m0022_accounts_blocked',1795952180),
('m0023_accounts_hidden',1795952180),
('m0024_accounts_update_time',1795952180),
('m0025_change_log_time',1795952180),
('m0026_requests',1795952180),
('m0027_requests_time',1795952180),
('m0028_service_tokens',1795952180),
('m0031_change_log_traceparent',1795952180),
('m0032_change_log_identity',1795952180),
('m0033_change_log_service',1795952180);
CREATE TABLE `service_tokens` (
  `id` varchar(16) NOT NULL,
  `name` varchar(255) NOT NULL,
  `token_hash` varchar(64) NOT NULL,
  `scopes` varchar(255) NOT NULL,
  `fields` text DEFAULT NULL,
  `create_time` bigint(20) NOT NULL,
  `expire_time` bigint(20) DEFAULT NULL,
  `revoke_time` bigint(20) DEFAULT NULL,
  `last_used_time` bigint(20) DEFAULT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
CREATE TABLE `settings` (
  `name` varchar(64) NOT NULL,
  `value` varchar(255) NOT NULL,
  PRIMARY KEY (`name`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
